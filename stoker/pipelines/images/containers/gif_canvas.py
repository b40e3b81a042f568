"""Pixels of a GIF's first frame on its canvas, which is transparent where the frame does not lie, as in browsers."""

from PIL import Image, ImageFile


def load_on_canvas(gif: ImageFile.ImageFile) -> Image.Image:
    """The first frame of an opened GIF, as large as the canvas, which Pillow has made large enough for it.

    Pillow fills the rest with the colour of index 0, unless the frame has a transparent colour. Here it gets an index
    that the frame does not use; if it uses all 256, the image becomes RGBA or LA.
    """
    left, top, right, bottom = gif.tile[0].extents or (0, 0, *gif.size)
    gif.load()
    width, height = gif.size
    beside = [(0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)]
    beside = [box for box in beside if box[0] < box[2] and box[1] < box[3]]
    if not beside or "transparency" in gif.info:
        return gif
    used = gif.crop((left, top, right, bottom)).histogram()
    image: Image.Image = gif
    fill: int | tuple[int, ...]
    if 0 in used:
        fill = used.index(0)
        image.info["transparency"] = fill
    else:
        image = gif.convert("RGBA" if gif.mode == "P" else "LA")
        fill = (0,) * len(image.getbands())
    for box in beside:
        image.paste(fill, box)
    return image
