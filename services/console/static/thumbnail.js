// Makes small copies of pictures in the browser.

const SIDE = 96; // pixels; shown at half of that

/** Resolve to the address of a small copy of `file`, or to "" if the browser cannot show it, as with DICOM. */
export async function thumbnail(file) {
  try {
    const picture = await createImageBitmap(file);
    const scale = SIDE / Math.min(picture.width, picture.height);
    const canvas = new OffscreenCanvas(SIDE, SIDE);
    const [width, height] = [picture.width * scale, picture.height * scale];
    canvas.getContext("2d").drawImage(picture, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
    picture.close();
    return URL.createObjectURL(await canvas.convertToBlob());
  } catch {
    return "";
  }
}
