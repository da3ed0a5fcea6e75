"SchNetPack's PaiNN, which runs in an environment of its own: `make .venv-zoo/.ready` builds it."

import typing
from pathlib import Path

PYTHON = Path(__file__).parents[1] / ".venv-zoo" / "bin" / "python"


def schnetpack(features, layers, n_rbf, cutoff):
    "The network, and what calls it with atomic numbers, positions and edges; there, and nowhere else."
    import torch.utils.data.dataloader as dataloader
    dataloader.T_co = typing.TypeVar("T_co", covariant=True)  # SchNetPack 2.1.1 looks for it there
    from schnetpack import properties
    from schnetpack.nn import CosineCutoff, GaussianRBF
    from schnetpack.representation import PaiNN
    model = PaiNN(features, layers, radial_basis=GaussianRBF(n_rbf, cutoff), cutoff_fn=CosineCutoff(cutoff))
    def represent(z, pos, edge_index):
        j, i = edge_index
        out = model({properties.Z: z, properties.Rij: pos[j] - pos[i], properties.idx_i: i, properties.idx_j: j})
        return out["scalar_representation"], out["vector_representation"]
    return model, represent
