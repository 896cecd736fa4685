// Browser side of the dashboard: theme, zoom, address, and the offline notice.
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

  // What a relayout event changed: axis -> [low, high], or null where it is automatic again.
  function changesOf(relayout) {
    const changes = {};
    for (const [key, value] of Object.entries(relayout || {})) {
      const [, axis, what] = key.match(/^([xy]axis\d*)\.(range\[0\]|range|autorange)$/) || [];
      if (what === "autorange" && value) changes[axis] = null;
      else if (what === "range") changes[axis] = value;
      else if (what === "range[0]") changes[axis] = [value, relayout[axis + ".range[1]"]];
      else if (key === "dragmode") changes.dragmode = value;
    }
    return changes;
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

    keepZoom(...args) {
      const zoom = args[args.length - 1] || {};
      const trigger = window.dash_clientside.callback_context.triggered[0];
      const changes = changesOf(trigger && trigger.value);
      if (!Object.keys(changes).length) return window.dash_clientside.no_update;
      const figure = trigger.prop_id.split(".")[0];
      const kept = Object.entries({ ...zoom[figure], ...changes }).filter(([, v]) => v !== null);
      return { ...zoom, [figure]: Object.fromEntries(kept) };
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
