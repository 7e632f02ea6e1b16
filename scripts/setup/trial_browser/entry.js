// What the trial browser's table uses of TanStack Virtual.
export {
  Virtualizer,
  elementScroll,
  observeElementOffset,
  observeElementRect,
} from "@tanstack/virtual-core";
