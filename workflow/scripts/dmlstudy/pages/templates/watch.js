// The page is replaced as a whole, so it loads itself again. It stops when it is not written any more.
{
  const note = document.getElementById("old");
  const every = Number(note.dataset.every) * 1000;
  const old = Date.now() - Number(note.dataset.written) > Math.max(60000, 6 * every);
  if (note.dataset.ended !== "yes") {
    note.hidden = !old;
    setTimeout(() => location.reload(), every);
  }
}
