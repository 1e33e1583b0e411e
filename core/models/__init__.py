"""What is a model, and which ones are here. One file per family; catalogue.py knows the disk."""

import logging

# diffusers imports torchao wherever it is installed, and that tells which of its kernels this machine cannot load
for _name in ("torchao", "torch.utils._pytree", "diffusers.quantizers"):
    logging.getLogger(_name).setLevel(logging.ERROR)
