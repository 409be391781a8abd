"""The table of memory and step time in docs/base-models.md: `python -m tests.helpers.base_model_table` prints it."""

from __future__ import annotations

from skag.lm.estimate import CUDA_CONTEXT, SPARE, Job, Shape, of_answering, of_training, step_seconds

MODELS = {  # sizes of the published config.json files
    "135 M (SmolLM2)": Shape(576, 30, 9, 3, 64, 1536, 49152, True),
    "1.1 B (TinyLlama)": Shape(2048, 22, 32, 4, 64, 5632, 32000, False),
    "7 B (Llama 2)": Shape(4096, 32, 32, 32, 128, 11008, 32000, False),
    "13 B (LLaMA)": Shape(5120, 40, 40, 40, 128, 13824, 32000, False),
}
CARDS = {24: 165e12, 48: 155e12, 80: 312e12, 141: 989e12}  # GB: bf16 peak of RTX 4090, A6000, A100, H200
JOB = Job(batch=8, length=256, answer=16, rank=64)
WAYS = {
    "bfloat16": ("none", False),
    "bfloat16, checkpointing": ("none", True),
    "4 bits, checkpointing": ("4bit", True),
}


def table() -> str:
    """Markdown: a row a model and way; memory, and seconds a step on each card where it fits, else a dash."""
    heads = ["model", "weights", "answering, GB", "training, GB", *(f"{size} GB" for size in CARDS)]
    rows = [heads, ["---", "---", *["---:"] * (len(heads) - 2)]]
    for name, shape in MODELS.items():
        for way, (quantisation, checkpointing) in WAYS.items():
            job = Job(JOB.batch, JOB.length, JOB.answer, JOB.rank, checkpointing=checkpointing)
            answering, training = (
                (memory.total * SPARE + CUDA_CONTEXT) / 1e9
                for memory in (
                    of_answering(shape, "bfloat16", quantisation),
                    of_training(shape, "bfloat16", job, quantisation),
                )
            )
            times = [
                f"{step_seconds(shape, job, peak):.3f} s" if training < size else "-" for size, peak in CARDS.items()
            ]
            rows.append([name, way, f"{answering:.1f}", f"{training:.1f}", *times])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
