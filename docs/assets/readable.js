// What the theme adds to a page that is there already.
const mend = () => {
  // Its copy buttons are a landmark each, all without a name; they are buttons, not places.
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) nav.setAttribute("role", "none");
  // A wide table scrolls in a frame, which the keyboard must reach.
  for (const frame of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) frame.tabIndex = 0;
};
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
mend();
