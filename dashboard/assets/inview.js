// Whether a panel is on the screen: what nobody sees need not be read.

/// `{ visible }`, kept up to date; `onEnter()` when it comes into view.
export function inView(node, onEnter) {
  const state = { visible: false };
  new IntersectionObserver((entries) => {
    const entered = entries.at(-1).isIntersecting && !state.visible;
    state.visible = entries.at(-1).isIntersecting;
    if (entered) onEnter();
  }).observe(node);
  return state;
}
