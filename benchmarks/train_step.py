"""What one training step costs: skag's against a plain one, and what each part of the difference is worth.

    python benchmarks/train_step.py [--batch 16] [--device cpu|cuda] [--threads 1] [--variants plain skag ...] [--toy]

NTU RGB+D's shape: 25 joints, 60 classes, 100 frames, two bodies of which the second is absent in 82 % of the clips; the
published network, all three loss terms, no mixing. Every variant runs in a process of its own, because what an
allocator has kept, and the peak of memory, are the process's. "plain" computes what the published code computes, as it
is written there: a convolution per temporal branch, graph convolutions before their mean over time, the constraint
by a V x V matrix per class, absent bodies like others, and the sentence of every clip through a text tower of
ViT-B/32's size (random weights) that trains along. The other variants are skag:

    skag            absent bodies left out (network.present_bodies_only), the C library's allocator as skag sets it
    skag-bf16       as "skag", in bf16 on a CPU too (train.precision)
    all-bodies      as "skag", absent bodies computed: the published numbers
    skag-malloc     as "skag", with the C library's allocator as it comes
    plain-kept      as "plain", with the allocator as skag sets it
    skag-compiled   as "skag", its blocks compiled (train.compile); only where it is named, or on a GPU

On a GPU all of skag is in bf16 and "plain" in float32, and the share of the bf16 rate of the card (a large matrix
product in the same process) is printed too. Seconds are the fastest step's: processor time on the CPU, where other
processes share the machine, wall time on a GPU. `--toy` makes network and text tower tiny, and traces what is to be
compiled without generating code, to try the script. Writes benchmarks/results/train-step-DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from skag.encoders.layers import BatchNorm, Pointwise
from skag.encoders.protogcn import SpatialGraph, TemporalBranches
from skag.methods.skeleton_agent.losses import alignment_loss
from skag.methods.skeleton_agent.network import ModelConfig, NetworkOutput, Recogniser
from skag.training.allocator import keep_freed_memory, without_small_caches
from skag.weights import mend_torchvision

VARIANTS = ("plain", "plain-kept", "skag", "skag-bf16", "all-bodies", "skag-malloc", "skag-compiled")
AS_IT_COMES = ("plain", "skag-malloc")  # the C library's allocator
K, V, M, T, D = 60, 25, 2, 100, 512
SINGLE = 0.82  # share of the clips with one person (NTU RGB+D 60)
ALPHA, BETA = 0.2, 0.5
RESULTS = Path(__file__).parent / "results"


class PlainGraph(SpatialGraph):
    """As published: both projections of every frame, then their mean over time."""

    def forward(self, x: Tensor) -> tuple[Tensor, AbstractContextManager[None]]:
        pre = F.relu(self.pre(x)).unflatten(1, (8, -1))
        x1, x2 = (
            F.conv2d(x, layer.weight[..., None, None], layer.bias).mean(2).unflatten(1, (8, -1))
            for layer in (self.conv1, self.conv2)
        )
        inter = torch.tanh(x1.unsqueeze(-1) - x2.unsqueeze(-2)) * self.alpha
        intra = torch.softmax(torch.einsum("nscv,nscw->nsvw", x1, x2), dim=-2) * self.beta
        y = torch.einsum("nsctv,nscvw->nsctw", pre, inter + (self.A + intra).unsqueeze(2)).flatten(1, 2)
        return F.relu(self.bn(self.post(y)) + (x if self.down is None else self.down(x))), nullcontext()


class PlainBranches(TemporalBranches):
    """As published: every temporal branch with a 1x1 convolution and a norm of its own."""

    def __init__(self, channels: int, num_joints: int, stride: int) -> None:
        super().__init__(channels, num_joints, stride)
        del self.split, self.split_bn
        self.one = nn.ModuleList(
            nn.Conv2d(channels, width, 1, stride=(stride, 1) if number == 5 else 1)
            for number, width in enumerate(self.widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in self.widths[:-1])

    def forward(self, x: Tensor, _: AbstractContextManager[None]) -> Tensor:
        x = torch.cat([x, x.mean(-1, keepdim=True)], -1)
        parts = [F.relu(norm(one(x))) for norm, one in zip(self.norms, self.one, strict=False)]
        found = [conv(part) for conv, part in zip(self.dilated, parts, strict=False)]
        found.append(F.max_pool2d(parts[4], (3, 1), stride=(self.stride, 1), padding=(1, 0)))
        out = torch.cat([*found, self.one[5](x)], 1)
        out = out[..., :V] + torch.einsum("nct,v->nctv", out[..., V], self.add_coeff)
        return self.bn(self.transform(F.relu(self.transform_bn(out))))


class Plain(Recogniser):
    """The published network as it is written, with the constraint by a matrix per class."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        before = config.channels[0]
        for block, width, stride in zip(self.blocks, config.channels, config.strides, strict=True):
            block.gcn = PlainGraph(before, width, V)
            block.tcn = PlainBranches(width, V, stride)
            before = width
        for module in self.modules():  # torch's own, not those that skag has for the CPU
            if isinstance(module, Pointwise | BatchNorm):
                module.__class__ = nn.Conv2d if isinstance(module, Pointwise) else nn.BatchNorm2d

    def forward(self, x: Tensor) -> NetworkOutput:
        per_joint = self.features(x).mean(3).flatten(0, 1)  # NM C V
        pooled = per_joint.unflatten(0, (len(x), M)).mean((1, 3))
        matrices = self.critical_joints[:, :, None].expand(K, V, V)
        critical = torch.matmul(per_joint.unsqueeze(1), matrices)  # NM K C V
        projected = F.conv2d(critical.transpose(1, 2).flatten(3), self.constraint_head.weight[..., None, None])
        projected = projected + self.constraint_head.bias  # NM 1 K V
        constraint = projected.squeeze(1).mean(2).unflatten(0, (len(x), M)).mean(1)
        return NetworkOutput(self.class_head(pooled), constraint, self.embedding_head(pooled))


def text_tower(toy: bool) -> nn.Module:
    """A text tower of ViT-B/32's size with random weights, or a tiny one."""
    mend_torchvision()
    import logging

    import open_clip

    if toy:
        return open_clip.transformer.TextTransformer(width=64, heads=2, layers=1, output_dim=D)

    logging.disable(logging.WARNING)  # that the weights are random is wanted here
    tower = open_clip.create_model("ViT-B-32", pretrained=None)
    del tower.visual
    return tower


def one(variant: str, batch: int, steps: int, device: torch.device, toy: bool) -> dict:
    """Run one variant in this process: seconds and peak memory of a step, multiplications per clip."""
    if variant not in AS_IT_COMES:
        keep_freed_memory()
    torch.manual_seed(0)
    on_gpu, plain = device.type == "cuda", variant.startswith("plain")
    shape: dict = {"channels": (16, 16), "strides": (1, 2)} if toy else {}
    config = ModelConfig(K, V, M, embedding_dim=D, present_bodies_only=not plain and variant != "all-bodies", **shape)
    model = (Plain if plain else Recogniser)(config)
    model.bf16 = variant == "skag-bf16" or (on_gpu and not plain)
    model.critical_joints.copy_(torch.rand(K, V) < 0.3)
    model.to(device)
    if variant == "skag-compiled":  # as `train.compile` does it
        torch._dynamo.config.recompile_limit = 64
        for block in model.blocks:
            block.compile(dynamic=True, backend="eager" if toy else "inductor")
    x, labels = torch.randn(batch, M, 16 if toy else T, V, 3), torch.randint(0, K, (batch,), device=device)
    x[: round(SINGLE * batch), 1] = 0
    x = x.to(device)
    parameters = list(model.parameters())
    if plain:
        tower = text_tower(toy).to(device)
        parameters += tower.parameters()
        text = torch.randint(1, 49000, (K, 77), device=device)
        text[:, -1] = 49407  # the end token, whose place holds the sentence's vector
    else:
        text = torch.randn(K, D, device=device)
    fused = None if plain else True
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=fused)

    def forward() -> Tensor:
        out = model(x)
        sentences = getattr(tower, "encode_text", tower)(text[labels]) if plain else text[labels]
        loss = F.cross_entropy(out.class_logits.float(), labels)
        loss = loss + ALPHA * F.cross_entropy(out.constraint_logits.float(), labels)
        return loss + BETA * alignment_loss(out.embedding.float(), sentences, labels)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    step(forward())
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    cpu, wall = [], []
    for _ in range(steps):
        if on_gpu:
            torch.cuda.synchronize()
        began, used = time.perf_counter(), time.process_time()
        step(forward())
        if on_gpu:
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # Last: counting takes memory of its own, and does not see into what is compiled.
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        loss = forward()
        forward_macs = counter.get_total_flops() / 2
        step(loss)
    macs = counter.get_total_flops() / 2
    seconds = min(wall) if on_gpu else min(cpu)
    found = {
        "seconds": round(seconds, 4),
        "wall_seconds": round(min(wall), 4),
        "clips_per_second": round(batch / seconds, 2),
        "peak_gib": round(peak / 2**30, 3),
        "forward_gmac_per_clip": round(forward_macs / batch / 1e9, 3),
        "step_gmac_per_clip": round(macs / batch / 1e9, 3),
    }
    if on_gpu:
        found["share_of_bf16_rate"] = round(2 * macs / seconds / bf16_rate(device), 4)
    return found


def bf16_rate(device: torch.device) -> float:
    """Operations per second of the card in a large bf16 matrix product."""
    size, times = 8192, 20
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        a @ a
    torch.cuda.synchronize()
    return 2 * size**3 * times / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one that is not")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: all that the device is made for")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON file instead of benchmarks/results/train-step-DEVICE.json")
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)  # the processes this one starts
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.one:
        torch.set_num_threads(args.threads)
        print(json.dumps(one(args.one, args.batch, args.steps, device, args.toy)))
        return
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))
    }
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": str(args.threads)}
    options = ["--batch", args.batch, "--steps", args.steps, "--device", args.device, "--threads", args.threads]
    options += ["--toy"] if args.toy else []
    variants = args.variants or [each for each in VARIANTS if args.device == "cuda" or each != "skag-compiled"]
    path = args.out or RESULTS / f"train-step-{args.device}.json"
    found: dict[str, dict] = {}
    print(f"{'variant':<12}{'seconds':>9}{'clips/s':>9}{'peak GiB':>10}{'GMAC/clip':>11}  (forward and backward)")
    for variant in variants:
        command = [sys.executable, __file__, "--one", variant, *map(str, options)]
        as_it_comes = variant in AS_IT_COMES
        own = environment if as_it_comes else without_small_caches(environment)
        done = subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True, check=True)
        found[variant] = row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{variant:<12}{row['seconds']:>9.3f}{row['clips_per_second']:>9.2f}{row['peak_gib']:>10.2f}"
            f"{row['step_gmac_per_clip']:>11.2f}"
            + (f"  {row['share_of_bf16_rate']:.1%} of the card's bf16 rate" if "share_of_bf16_rate" in row else ""),
            flush=True,
        )
        path.write_text(json.dumps(document(args, found), indent=1) + "\n")  # what a broken-off run has, stays
    for variant, ratio in against_plain(found).items():
        print(
            f"{variant} against plain: {ratio['times_faster']:.1f} times as fast, "
            f"{ratio['share_of_memory']:.0%} of the memory"
        )


def against_plain(found: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Of every variant but the plain ones, how many times faster than "plain" it is, and its share of the memory."""
    if "plain" not in found:
        return {}
    plain = found["plain"]
    return {
        variant: {
            "times_faster": round(plain["seconds"] / row["seconds"], 2),
            "share_of_memory": round(row["peak_gib"] / plain["peak_gib"], 3),
        }
        for variant, row in found.items()
        if not variant.startswith("plain")
    }


def document(args: argparse.Namespace, found: dict[str, dict]) -> dict:
    on_gpu = args.device == "cuda"
    return {
        "command": " ".join(["python", "benchmarks/train_step.py", *sys.argv[1:]]),
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "batch": args.batch,
        "single_person_share": round(SINGLE * args.batch) / args.batch,
        "seconds": "wall, fastest step" if on_gpu else "processor time, fastest step",
        "load_at_the_end": [round(load, 1) for load in os.getloadavg()],  # other processes slow a step down
        "variants": found,
        "against_plain": against_plain(found),
    }


if __name__ == "__main__":
    main()
