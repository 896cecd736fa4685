// Browser side of the dashboard: theme, zoom windows, address, and the offline notice.
(function () {
  "use strict";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let lastBeat = Date.now();

  function systemTheme() {
    return system.matches ? "dark" : "light";
  }

  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    document.documentElement.dataset.agThemeMode = theme;
  }

  setTheme(systemTheme());
  system.addEventListener("change", () =>
    window.dash_clientside.set_props("system-theme", { data: systemTheme() })
  );

  setInterval(() => {
    const notice = document.getElementById("offline");
    if (notice) notice.hidden = document.hidden || Date.now() - lastBeat < 8000;
  }, 1000);
  document.addEventListener("visibilitychange", () => { lastBeat = Date.now(); });

  function rangeOf(relayout) {
    if (!relayout) return undefined;
    if (relayout["xaxis.autorange"]) return null;
    if (relayout["xaxis.range"]) return relayout["xaxis.range"];
    const low = relayout["xaxis.range[0]"];
    const high = relayout["xaxis.range[1]"];
    return low === undefined || high === undefined ? undefined : [low, high];
  }

  function nameLists() {
    document.querySelectorAll(".dash-options-list:not([aria-label])").forEach((list) => {
      const legend = list.closest("fieldset")?.querySelector("legend");
      if (legend) list.setAttribute("aria-label", legend.textContent);
    });
  }

  const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  functions.mmhealthNumber = (value) => {
    if (typeof value !== "number" || Number.isInteger(value)) return value ?? "";
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-4 ? value.toExponential(2) : String(+value.toPrecision(4));
  };
  functions.mmhealthShare = (value) =>
    typeof value === "number" ? (100 * value).toFixed(value < 0.001 ? 3 : 1) + " %" : value ?? "";

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.mmhealth = {
    applyTheme(choice) {
      const theme = choice === "light" || choice === "dark" ? choice : systemTheme();
      setTheme(theme);
      return theme;
    },

    keepWindow(...args) {
      const windows = args[args.length - 1] || {};
      const unchanged = window.dash_clientside.no_update;
      const trigger = window.dash_clientside.callback_context.triggered[0];
      if (!trigger) return unchanged;
      const range = rangeOf(trigger.value);
      const figure = trigger.prop_id.split(".")[0];
      if (range === undefined || (range === null && !windows[figure])) return unchanged;
      return { ...windows, [figure]: range };
    },

    showAddress(query) {
      const address = window.location.pathname + (query || "");
      window.history.replaceState(window.history.state, "", address);
      return window.dash_clientside.no_update;
    },

    heartbeat() {
      lastBeat = Date.now();
      nameLists();
      return true;
    },
  };
})();
