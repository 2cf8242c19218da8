// Runs before the page is drawn, so that it never appears in the wrong colours first.
"use strict";
(function () {
  const root = document.documentElement;
  function chosen() {
    try {
      return localStorage.getItem("buckler-theme") || "auto";
    } catch {
      return "auto"; // storage is turned off
    }
  }
  function apply(theme) {
    if (theme === "auto") {
      root.removeAttribute("data-theme");
    } else {
      root.setAttribute("data-theme", theme);
    }
  }
  apply(chosen());
  document.addEventListener("DOMContentLoaded", function () {
    const select = document.getElementById("theme");
    select.value = chosen();
    select.addEventListener("change", function () {
      apply(select.value);
      try {
        localStorage.setItem("buckler-theme", select.value);
      } catch {
        // storage is turned off: the choice lasts for this page only
      }
    });
  });
})();
