"""An autoencoder that reconstructs, centres where k-means finds them, and self-training that repeats itself by its seed."""
import torch

from cl_lib.embedded_clustering import Clusterer, reconstruct, self_train
from cl_lib.losses.assignments import assignment_loss, soft_assignment
from cl_lib.views.graph import gcn_matrix


def blobs():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    return torch.eye(3)[y].repeat(1, 2) * 3 + 0.2 * torch.randn(90, 6, generator=g), y


def test_it_reconstructs_and_finds_the_blobs():
    x, y = blobs()
    model = Clusterer(6, (8, 4), k=3, seed=0)
    before = (model.decoder(model(x)) - x).square().mean().item()
    reconstruct(model, x, seed=0, steps=300, lr=1e-2)
    z = model(x)
    assert (model.decoder(z) - x).square().mean() < 0.5 * before
    nearest = torch.cdist(z, model.centres).argmin(1)
    assert all(len(nearest[y == c].unique()) == 1 for c in range(3)) and len(nearest.unique()) == 3
    for c in range(3):
        torch.testing.assert_close(model.centres[c], z[nearest == c].mean(0), rtol=1e-4, atol=1e-4)


def test_self_training_moves_centres_sharpens_and_repeats():
    x, _ = blobs()
    model = Clusterer(6, (8, 4), k=3, seed=0)
    reconstruct(model, x, seed=0, steps=50)
    start, errors = model.clone(), []

    def objective(z, q, p, error):
        assert not p.requires_grad and q.requires_grad and z.shape == (90, 4)
        errors.append(error().item())
        return assignment_loss(q, p)

    z, q = self_train(model, x, objective, seed=1, epochs=20, lr=1e-2, sample=30)
    again, _ = self_train(start.clone(), x, objective, seed=1, epochs=20, lr=1e-2, sample=30)
    assert torch.equal(z, again) and errors[:20] == errors[20:] and not model.centres.equal(start.centres)
    with torch.no_grad():
        assert q.max(1).values.mean() > soft_assignment(start(x), start.centres).max(1).values.mean()


def test_an_adjacency_makes_it_a_gcn():
    x, _ = blobs()
    edges = torch.stack([torch.arange(90), torch.arange(90).roll(3)])
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    plain, gcn = Clusterer(6, (8, 4), k=3, seed=0), Clusterer(6, (8, 4), k=3, adjacency=gcn_matrix(edges, 90), seed=0)
    assert not torch.allclose(plain(x), gcn(x)) and plain.encoder[0].weight.equal(gcn.encoder[0].weight)
    before = gcn.clone()
    reconstruct(gcn, x, seed=0, steps=5, batch=400)  # more than there are: all
    assert before.adjacency is gcn.adjacency and not before.encoder[0].weight.equal(gcn.encoder[0].weight)
