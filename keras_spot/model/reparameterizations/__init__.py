"""Other ways to train a soft prompt, each of which ends in plain `[P, H]` numbers.

A `Reparameterization` is a Keras layer that trains in a prompt's place; `fold()` gives the
prompt, once a step while it trains and once for all afterwards: files, banks, exports and servers
hold the folded prompt. `build`, `Run`, `SoftPrompt` and `--reparameterization` take one.

| name | class | fold | trained |
|---|---|---|---|
| `residual` | `Residual` | `P + network(P)` | P H + 2 M H + M + 3 H |
| `low-rank` | `LowRank` | `initial + (Z R) scale + shift` | P r + 2 H |
| `vocabulary-mixture` | `VocabularyMixture` | `initial + W E` | P m |
| `shared` | `Shared` | `P* o (U_k V_k)`, one `P*` for all of a bank | P H, and r (P + H) each |
| (only as an object) | `SourceMixture` | `initial + sum_i (w_i - 1/k) S_i` | k |
"""

from keras_spot.model.reparameterizations.base import Reparameterization
from keras_spot.model.reparameterizations.choose import NAMED, Spec, describe, get
from keras_spot.model.reparameterizations.low_rank import LowRank
from keras_spot.model.reparameterizations.residual import Residual
from keras_spot.model.reparameterizations.shared import Shared
from keras_spot.model.reparameterizations.source_mixture import SourceMixture
from keras_spot.model.reparameterizations.vocabulary_mixture import VocabularyMixture

__all__ = [
    "NAMED",
    "LowRank",
    "Reparameterization",
    "Residual",
    "Shared",
    "SourceMixture",
    "Spec",
    "VocabularyMixture",
    "describe",
    "get",
]
