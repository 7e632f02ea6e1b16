// What scrolls sideways can be reached with the keyboard, and says so to a screen reader.
addEventListener("load", () =>
  setTimeout(() => {
    for (const one of document.querySelectorAll(".md-typeset__scrollwrap, pre > code")) {
      one.tabIndex = 0;
    }
    document.documentElement.dataset.ready = "yes";
  }, 100),
);
