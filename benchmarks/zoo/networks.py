"""Networks that people train, each as a model and a callable that gives its loss on a fixed input.

All are small and untrained. The atomistic ones see the same two molecules of five atoms; forces are derivatives of the
energy, as in training. Each builder seeds torch itself. The packages are those of the environment `.venv-zoo`.
"""

import typing

import torch
import torch.utils.data.dataloader as dataloader
from torch import nn

dataloader.T_co = typing.TypeVar("T_co", covariant=True)  # SchNetPack 2.1.1 looks for it there
torch.serialization.add_safe_globals([slice])  # in a file that e3nn 0.4.4 loads

import e3nn.util.jit  # noqa: E402
import schnetpack as spk  # noqa: E402
import schnetpack.atomistic  # noqa: E402
import transformers  # noqa: E402
from e3nn import o3  # noqa: E402
from e3nn.nn.models.v2106.points_convolution import Convolution  # noqa: E402
from e3nn.nn.models.v2106.gate_points_networks import SimpleNetwork  # noqa: E402
from egnn_pytorch import EGNN_Network  # noqa: E402
from gotennet_pytorch import GotenNet  # noqa: E402
from mace.modules import ScaleShiftMACE, interaction_classes  # noqa: E402
from schnetpack import properties  # noqa: E402
from torch_geometric.nn.models import DimeNetPlusPlus, SchNet, ViSNet, dimenet, visnet  # noqa: E402

from painn_nb.model import PaiNN  # noqa: E402

WORLDS, N, CUTOFF = 2, 5, 5.0


def radius_graph(pos, r, batch, loop=False, max_num_neighbors=None):
    "As torch_geometric's, which needs a compiled package."
    near = (torch.cdist(pos, pos) < r) & (batch[:, None] == batch)
    return (near if loop else near & ~torch.eye(len(pos), dtype=torch.bool)).nonzero().T.flip(0)


def triplets(edge_index, num_nodes):
    "As torch_geometric's, which needs a compiled package."
    j, i = edge_index
    ji, kj = ((i == j[:, None]) & (j != i[:, None])).nonzero().T
    return i, j, i[ji], j[ji], j[kj], kj, ji


dimenet.radius_graph = visnet.radius_graph = radius_graph
dimenet.triplets = triplets


def molecules(seed=0):
    "Atomic numbers (nodes,), positions (nodes, 3), the molecule of each atom, and the edges (2, E)."
    pos = 1.5 * torch.randn(WORLDS * N, 3, generator=torch.Generator().manual_seed(seed))
    batch = torch.arange(WORLDS).repeat_interleave(N)
    return torch.tensor([1, 6, 8, 6, 1]).repeat(WORLDS), pos, batch, radius_graph(pos, CUTOFF, batch)


def square(*outputs): return sum(x.square().sum() for x in outputs)


def schnetpack_input():
    z, pos, batch, (j, i) = molecules()
    p, no_offsets = properties, torch.zeros(len(j), 3)
    return {p.Z: z, p.R: pos, p.idx_i: i, p.idx_j: j, p.idx_m: batch, p.offsets: no_offsets, p.Rij: pos[j] - pos[i],
            p.n_atoms: batch.bincount()}


def schnetpack_parts(): return spk.nn.GaussianRBF(16, CUTOFF), spk.nn.CosineCutoff(CUTOFF)


def schnetpack_painn():
    model = spk.representation.PaiNN(16, 3, *schnetpack_parts())
    def loss():
        out = model(schnetpack_input())
        return square(out["scalar_representation"], out["vector_representation"])
    return model, loss


def schnetpack_schnet():
    model = spk.representation.SchNet(16, 3, *schnetpack_parts())
    return model, lambda: square(model(schnetpack_input())["scalar_representation"])


def schnetpack_forces():
    heads = [spk.atomistic.Atomwise(16, output_key="energy"), spk.atomistic.Forces()]
    painn = spk.representation.PaiNN(16, 3, *schnetpack_parts())
    model = spk.model.NeuralNetworkPotential(painn, [spk.atomistic.PairwiseDistances()], heads)
    def loss():
        out = model(schnetpack_input())
        return square(out["energy"], out["forces"])
    return model, loss


def pyg_schnet():
    def edges(pos, batch):
        index = radius_graph(pos, CUTOFF, batch)
        return index, (pos[index[0]] - pos[index[1]]).norm(dim=-1)
    model = SchNet(16, 16, 3, 16, CUTOFF, interaction_graph=edges)
    return model, lambda: square(model(*molecules()[:3]))


def pyg_visnet():
    model = ViSNet(lmax=2, num_heads=4, num_layers=3, hidden_channels=16, num_rbf=16, vertex=True, derivative=True)
    return model, lambda: square(*model(*molecules()[:3]))


def pyg_dimenet():
    model = DimeNetPlusPlus(16, 4, 2, 8, 8, 16, num_spherical=3, num_radial=4, cutoff=CUTOFF)
    for block in model.output_blocks: nn.init.normal_(block.lin.weight)  # they start at zero
    return model, lambda: square(model(*molecules()[:3]))


def egnn():
    model = EGNN_Network(depth=3, dim=16, num_tokens=10, norm_coors=True, global_linear_attn_every=2,
                         num_global_tokens=2, global_linear_attn_heads=2, global_linear_attn_dim_head=8)
    z, pos = (x.unflatten(0, (WORLDS, N)) for x in molecules()[:2])
    return model, lambda: square(*model(z, pos))


def gotennet():
    model = GotenNet(dim=16, depth=2, max_degree=2, heads=2, dim_head=8, num_atoms=10, num_residual_streams=2)
    z, pos = (x.unflatten(0, (WORLDS, N)) for x in molecules()[:2])
    return model, lambda: square(*model(z, pos))


def mace_model(interactions=2):
    element, residual = (interaction_classes[f"RealAgnostic{kind}InteractionBlock"] for kind in ("", "Residual"))
    return ScaleShiftMACE(
        atomic_inter_scale=1.0, atomic_inter_shift=0.0, r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=2,
        interaction_cls=residual, interaction_cls_first=element, num_interactions=interactions, num_elements=3,
        hidden_irreps=o3.Irreps("8x0e + 8x1o"), MLP_irreps=o3.Irreps("8x0e"), atomic_energies=torch.zeros(3).numpy(),
        avg_num_neighbors=N - 1, atomic_numbers=[1, 6, 8], correlation=2, gate=nn.functional.silu)


def mace_input(pos, batch, edges, element):
    no_shift = torch.zeros(edges.shape[1], 3, dtype=pos.dtype)
    return {"positions": pos, "edge_index": edges, "batch": batch, "shifts": no_shift, "unit_shifts": no_shift,
            "ptr": torch.arange(0, len(pos) + 1, N), "cell": torch.zeros(3 * (int(batch[-1]) + 1), 3, dtype=pos.dtype),
            "node_attrs": nn.functional.one_hot(element, 3).to(pos.dtype)}


def mace():
    model = mace_model()
    def loss():
        z, pos, batch, edges = molecules()
        out = model(mace_input(pos, batch, edges, torch.searchsorted(torch.tensor([1, 6, 8]), z)), training=True)
        return square(out["energy"], out["forces"])
    return model, loss


def e3nn_points():
    model = SimpleNetwork("3x0e", "4x0e + 1x1o", max_radius=CUTOFF, num_neighbors=N, num_nodes=N, mul=4, layers=2)
    _, pos, batch, _ = molecules()
    x = torch.randn(len(pos), 3)
    return model, lambda: square(model({"pos": pos, "x": x, "batch": batch}))


class E3nnLayers(nn.Module):
    "Convolutions of e3nn, each compiled by TorchScript."
    def __init__(self):
        super().__init__()
        irreps, sh = o3.Irreps("8x0e + 4x1o"), o3.Irreps.spherical_harmonics(2)
        layers = [Convolution(irreps, "1x0e", sh, irreps, [16, 32], N) for _ in range(2)]
        self.layers = nn.ModuleList([e3nn.util.jit.compile(layer) for layer in layers])

    def forward(self, x, pos, j, i, radial):
        sh = o3.spherical_harmonics([0, 1, 2], pos[j] - pos[i], True, "component")
        for layer in self.layers: x = x + layer(x, x.new_ones(len(x), 1), j, i, sh, radial)
        return x


def e3nn_torchscript():
    model = E3nnLayers()
    _, pos, _, (j, i) = molecules()
    x, radial = torch.randn(len(pos), 20), torch.rand(len(j), 16)
    return model, lambda: square(model(x, pos, j, i, radial))


def tokens(): return torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))


def gpt2():
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=3, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    return model, lambda: model(input_ids=tokens(), labels=tokens()).loss


def llama():
    config = transformers.LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=3,
                                      num_attention_heads=2, num_key_value_heads=1)
    model = transformers.LlamaForCausalLM(config)
    return model, lambda: model(input_ids=tokens(), labels=tokens()).loss


def resnet18():
    config = transformers.ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[8, 16, 32, 64], embedding_size=8,
                                       layer_type="basic", num_labels=10)
    model = transformers.ResNetForImageClassification(config)
    image, label = torch.randn(2, 3, 64, 64), torch.tensor([1, 2])
    return model, lambda: model(pixel_values=image, labels=label).loss


def encoder(): return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 3)


def transformer():
    model, x = encoder(), torch.randn(2, 7, 16)
    return model, lambda: square(model(x))


def transformer_masked():
    model, x = encoder(), torch.randn(2, 7, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    return model, lambda: square(model(x, mask=mask))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.out = nn.Embedding(50, 16), nn.LSTM(16, 16, 2, batch_first=True), nn.Linear(16, 5)

    def forward(self, x): return self.out(self.lstm(self.embed(x))[0])


def lstm():
    model = Tagger()
    return model, lambda: square(model(tokens()))


def painn():
    model = PaiNN(features=16, layers=3, n_rbf=16)
    pos, vel = torch.randn(2, WORLDS, N, 3)
    return model, lambda: square(*model(torch.ones(WORLDS, N), pos, vel))


ZOO = {
    "PaiNN (painn_nb)": painn,
    "PaiNN (SchNetPack)": schnetpack_painn,
    "PaiNN with forces (SchNetPack)": schnetpack_forces,
    "SchNet (SchNetPack)": schnetpack_schnet,
    "SchNet (PyG)": pyg_schnet,
    "ViSNet with forces (PyG)": pyg_visnet,
    "DimeNet++ (PyG)": pyg_dimenet,
    "EGNN (egnn-pytorch)": egnn,
    "GotenNet (gotennet-pytorch)": gotennet,
    "MACE with forces (mace-torch)": mace,
    "gate points (e3nn)": e3nn_points,
    "convolutions, TorchScript (e3nn)": e3nn_torchscript,
    "GPT-2 (transformers)": gpt2,
    "Llama (transformers)": llama,
    "ResNet-18 (transformers)": resnet18,
    "TransformerEncoder (torch)": transformer,
    "TransformerEncoder, mask of -inf (torch)": transformer_masked,
    "LSTM (torch)": lstm,
}


def build(name):
    torch.manual_seed(0)
    return ZOO[name]()
