"""Make small pictures and upload them: each step in the lane that suits it.

    python thumbnails.py http://127.0.0.1:8000/small/ holiday/*.jpg

Pillow computes, and lets go of the interpreter while it does: that is for threads, one for each
core. An upload waits: that is for greenlets, as many as there are.
"""

import io
import sys
import urllib.request
from pathlib import Path

from PIL import Image

from hybridexec import HybridExecutor

SIZE = (320, 320)


def shrink(path):
    """A name, and the bytes of a small JPEG."""
    with Image.open(path) as image:
        image.thumbnail(SIZE)
        small = io.BytesIO()
        image.convert("RGB").save(small, "JPEG", quality=85)
    return Path(path).stem + ".jpg", small.getvalue()


def upload(base, name, data):
    """The status of the answer."""
    request = urllib.request.Request(base + name, data, method="PUT")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status


def main(base, paths):
    with HybridExecutor(threads=1) as executor:
        uploads = []
        for name, data in executor.options(lane="thread").map_unordered(shrink, paths):
            uploads.append(executor.submit(upload, base, name, data))
        return [each.result() for each in uploads]


if __name__ == "__main__":
    print(f"{len(main(sys.argv[1], sys.argv[2:]))} uploaded")
