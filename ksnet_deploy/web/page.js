() => {
  // A preview says how high it is, so that it needs no second bar to scroll by.
  window.addEventListener("message", (event) => {
    const frame = document.querySelector("iframe.preview");
    const height = event.data && event.data.previewHeight;
    if (frame && event.source === frame.contentWindow && Number.isFinite(height)) {
      frame.style.height = `${Math.min(Math.max(height, 240), 6000)}px`;
    }
  });
}
