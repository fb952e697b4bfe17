"""torch-fidelity, imported behind a stub of torchvision, which it needs for nothing that we ask."""

import sys
from functools import cache
from types import ModuleType
from unittest.mock import patch


@cache
def torch_fidelity():
    """The package; torchvision is a stub only while it is imported."""
    stubs = {}
    for name in (
        "torchvision",
        "torchvision.datasets",
        "torchvision.models",
        "torchvision.transforms",
        "torchvision.transforms.functional",
    ):
        stubs[name] = ModuleType(name)
    for name in ("CIFAR10", "STL10", "CIFAR100"):
        setattr(stubs["torchvision.datasets"], name, type(name, (), {}))
    stubs["torchvision"].transforms = stubs["torchvision.transforms"]
    stubs["torchvision.transforms"].functional = stubs["torchvision.transforms.functional"]
    before = set(sys.modules)
    with patch.dict(sys.modules, stubs):
        import torch_fidelity

        ours = {n: m for n, m in sys.modules.items() if n not in before and n not in stubs}
    sys.modules.update(ours)
    return torch_fidelity
