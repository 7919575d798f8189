"""Edit a photo from Python: invert, edit, keep the inversion, edit again."""

# %% [markdown]
# The photo is the astronaut of scikit-image (`pip install "sdic[sample]"`). Run this file as it
# is, or cell by cell in an editor that knows `# %%`. The networks are fetched at their first use.

# %%
from pathlib import Path

from PIL import Image
from skimage import data

import sdic

out = Path("edited")
out.mkdir(exist_ok=True)
Image.fromarray(data.astronaut()).save(out / "astronaut.png")

# %% [markdown]
# An editor is an inversion method with a generator and a face detector. `sdic.list_methods()` names
# the methods; `sdic directions list` shows the directions.

# %%
editor = sdic.load()
print("methods:", ", ".join(sdic.list_methods()))

# %% [markdown]
# The short way: photo in, edited photo out.

# %%
editor.edit(out / "astronaut.png", smile=-2).save(out / "serious.png")

# %% [markdown]
# The long way keeps the inversion, so that further edits need neither detector nor encoder.

# %%
inversion = editor.invert(out / "astronaut.png")
Image.fromarray(editor.render(inversion)).save(out / "inversion.png")
sdic.save_inversion(inversion, out / "astronaut.sdic.safetensors")

# %% [markdown]
# Later, perhaps in another program: load it, and edit again. Directions add up.

# %%
inversion = sdic.load_inversion(out / "astronaut.sdic.safetensors")
older = editor.make_edit({"age": 2, "smile": -1})
Image.fromarray(editor.render(inversion, older)).save(out / "older-face.png")

# %% [markdown]
# Paste the change into the photo. Outside the crop not one pixel differs.

# %%
photo = sdic.images.read(out / "astronaut.png")
pasted = editor.paste(inversion, photo, older)
sdic.images.write(out / "older.png", pasted)
changed = (pasted.rgb != photo.rgb).any(axis=2)
print(f"{changed.mean():.0%} of the photo's pixels changed")
print("written:", ", ".join(sorted(path.name for path in out.iterdir())))
