"""A registered model as MLflow loads and serves it: this file and `laformer/` travel with it.

Nothing else of the project is there then: this file imports `laformer` alone. It restores as
`laformer restore` does, to the same pixels.

A signature of MLflow names one dtype and refuses every other. This one is a batch of objects, which
lets any array through, and the checks stand here: images of one size as an array (N, H, W, C), or
of several sizes as an array (N,) of images (H, W, C). uint8, uint16 and floats in [0, 1] come back
in their dtype, floats as float32. JSON has no dtypes: there, whole numbers are 8-bit levels and
numbers with a point are floats.
"""

from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from laformer.errors import ModelError
from laformer.restore import Restorer

ARTIFACT = "model"
"""Name of the released checkpoint in the model."""
LEAST_LEVEL = 16.0
"""A float this large is no noise above white: it is a level of an image that was not divided."""

Array = np.ndarray[Any, Any]


class ServedModel(PythonModel):  # type: ignore[misc]
    """Restores images with one loaded network."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network, onto a GPU where there is one."""
        self.restore = Restorer.load(Path(context.artifacts[ARTIFACT]))

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: Any = None
    ) -> Array:
        """Return each image restored: an array (N, H, W, C), or (N,) of images of several sizes.

        Raises MlflowException, which the server answers with status 400, for what is no image.
        """
        del context, params  # MLflow's names
        try:
            restored = [self.restore(pixels(image)) for image in model_input]
        except (ModelError, TypeError, ValueError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return batch(restored)


def pixels(image: Any) -> Array:
    """Return (H, W, C) uint8, uint16 or float32 for an array or nested lists.

    Raises ValueError for another shape, or numbers that are neither levels nor in [0, 1].
    """
    array = np.asarray(image)
    if array.dtype == object:
        array = np.array(array.tolist())
    if array.ndim != 3:
        raise ValueError(
            f"an image has shape {array.shape}, not (H, W, C); give a batch (N, H, W, C)"
        )
    if array.dtype in (np.uint8, np.uint16):
        return array
    if np.issubdtype(array.dtype, np.integer):
        if array.size and not 0 <= array.min() <= array.max() <= 255:
            raise ValueError(
                f"levels from {array.min()} to {array.max()} are not 0 to 255; "
                "give uint16 as such, or floats in [0, 1]"
            )
        return array.astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"dtype {array.dtype} is no image; give uint8, or float32 in [0, 1]")
    if array.size and np.abs(array).max() >= LEAST_LEVEL:
        raise ValueError(
            f"floats reach {np.abs(array).max():g} but white is 1; divide by 255 or give uint8"
        )
    return array.astype(np.float32)


def batch(images: list[Array]) -> Array:
    """Return images (H, W, C) as one array where they have one size and dtype."""
    if len({(image.shape, image.dtype) for image in images}) == 1:
        return np.stack(images)
    several = np.empty(len(images), dtype=object)
    for place, image in enumerate(images):
        several[place] = image
    return several


mlflow.models.set_model(ServedModel())
