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

  functions.mmhealthAgo = (then) => {
    if (typeof then !== "number") return "";
    const seconds = Math.max(Date.now() / 1000 - then, 0);
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
      if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit} ago`;
    return `${Math.round(seconds)} s ago`;
  };

  // Cells of the fleet's grid.
  const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  const element = (...parts) => window.React.createElement(...parts);
  cells.MmhealthVerdict = ({ data }) =>
    element("span", { className: `verdict ${data.verdict}` }, data.verdict);
  cells.MmhealthRunLink = ({ data }) =>
    data.href ? element("a", { href: data.href }, data.name) : element("span", {}, data.name);
  cells.MmhealthCourse = ({ data }) => {
    const course = data.course || [];
    const known = course.filter((value) => value !== null);
    if (!known.length) return null;
    const [width, height, low, high] = [96, 22, Math.min(...known), Math.max(...known)];
    const y = (value) =>
      (2 + (height - 4) * (high > low ? 1 - (value - low) / (high - low) : 0.5)).toFixed(1);
    let path = "", pen = "M";
    course.forEach((value, index) => {
      if (value === null) { pen = "M"; return; }
      path += `${pen}${Math.round((width * index) / Math.max(course.length - 1, 1))} ${y(value)}`;
      pen = "L";
    });
    const limit = data.threshold;
    const inSight = limit !== null && low <= limit && limit <= high;
    return element("svg", { width, height, "aria-hidden": true, className: data.beyond ? "firing" : "" },
      inSight && element("path", { className: "limit", d: `M0 ${y(limit)}H${width}` }),
      element("path", { className: "curve", d: path }));
  };

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
