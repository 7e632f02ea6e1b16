// Elements. What models, files and servers wrote becomes text nodes and never mark-up.
"use strict";

const Dom = (() => {
  // Control characters, and what turns the direction of text: shown by their numbers.
  // eslint-disable-next-line no-control-regex
  const INVISIBLE = /[\0-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

  /** A text as a reader can see it. */
  function visible(text) {
    return String(text)
      .replaceAll("\r\n", "\n")
      .replace(INVISIBLE, (one) => {
        const code = one.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
        return `\u27e8U+${code}\u27e9`;
      });
  }

  /** An element; attributes that are functions listen, children that are no nodes are text. */
  function h(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (typeof value === "function") element.addEventListener(name, value);
      else if (name === "value" || name === "checked" || name === "open") element[name] = value;
      else element.setAttribute(name, value === true ? "" : value);
    }
    add(element, children);
    return element;
  }

  function add(element, children) {
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      element.append(child instanceof Node ? child : visible(child));
    }
    return element;
  }

  const fill = (element, ...children) => {
    element.replaceChildren();
    return add(element, children);
  };

  /** A cell's value as shown: numbers plain, nothing for a missing one. */
  const shown = (value) => (value === null || value === undefined ? "" : value);

  /** A column's name in words. */
  const named = (name) =>
    ({
      trial_index: "Trial",
      model_key: "Model",
      replication: "Replication",
      variant: "Variant",
      model_response: "Answer",
      quality_flags: "Flags",
    })[name] || name;

  /** A share in per cent. */
  const percent = (p) => {
    const of = p * 100;
    if (of > 0 && of < 0.5) return "<1";
    return of.toFixed(0);
  };

  return { h, add, fill, visible, shown, named, percent };
})();
