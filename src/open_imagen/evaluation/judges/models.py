"""The judges that models make, by name: importing this registers them."""

from open_imagen.evaluation.judges.detector import open_geneval
from open_imagen.evaluation.judges.preference import open_clip_preference, open_linear_preference
from open_imagen.evaluation.judges.questions import (
    Dpg,
    SoftTifaMean,
    SoftTifaProduct,
    Tifa,
    open_questions,
    open_vqascore,
)
from open_imagen.evaluation.judges.spec import MODEL_JUDGES

MODEL_JUDGES.register("vqascore")(open_vqascore)
for _kind in (Tifa, Dpg, SoftTifaMean, SoftTifaProduct):
    MODEL_JUDGES.register(_kind.name)(open_questions(_kind))
MODEL_JUDGES.register("geneval")(open_geneval)
MODEL_JUDGES.register("clip-preference")(open_clip_preference)
MODEL_JUDGES.register("linear-preference")(open_linear_preference)
