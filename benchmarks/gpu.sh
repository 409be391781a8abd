#!/bin/bash
# What skag takes on a GPU, part by part, in at most 8 minutes.
#
#     bash benchmarks/gpu.sh [DATA.h5]      on a machine with a GPU
#     bash benchmarks/gpu.sh --toy          the same on a CPU, everything tiny, to try the script
#
# DATA.h5 is NW-UCLA as `skag convert` writes it. Without it simulated recordings take its place: times are those of their
# number of clips, and accuracy says nothing. Parts, each with a limit of its own:
#
#     step       the published network at batch 64: clips a second and share of the card's bf16 rate, plain, skag, compiled
#     whole      recipe nw-ucla-small: describe, train, eval; seconds and accuracy
#     stages     a step of every method's stages, SUGAR's and LLM-AR's with the base model
#     scoring    candidates scored by the base model, and a LoRA step
#
# Results go to $OUT (default benchmarks/results/gpu), a JSON file each. $PYTHON has skag's packages (default: that of
# .venv, else python3); $BASE_MODEL is the base model (default smollm2). Ends with 1 where a part failed.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root
data= toy= device=cuda patience=1
for word in "$@"; do
    case $word in
        --toy) toy=--toy device=cpu patience=5 ;; # tests share a processor
        -*) echo "usage: bash benchmarks/gpu.sh [--toy] [DATA.h5]" >&2; exit 2 ;;
        *) data=$word ;;
    esac
done
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$(command -v "$python")" ] || python=python3
out=${OUT:-$root/benchmarks/results/gpu} base=${BASE_MODEL:-smollm2}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
failed=0 began=$SECONDS

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 from=$SECONDS code
    shift 2
    echo "== $name: $*"
    timeout $((limit * patience)) "$@"
    code=$?
    echo "== $name: ended with $code after $((SECONDS - from)) s"
    [ $code = 0 ] || failed=1
}

skag() { "$python" -m skag "$@"; }

whole() { # the recipe from store to accuracy, and how long each command took
    local recipe=(--recipe nw-ucla-small) from=$SECONDS described trained evaluated
    [ -z "$toy" ] || recipe=(--recipe demo --epochs 1 --set network.channels=16,16 --set network.strides=1,2)
    skag describe "$data" --llm measured --store "$work/dialogues.h5" -q && described=$((SECONDS - from)) &&
        skag train "$data" "${recipe[@]}" --store "$work/dialogues.h5" --out "$work/run" --device $device -q &&
        trained=$((SECONDS - from - described)) &&
        skag eval "$work/run" --device $device --json -q > "$work/eval.json" || return 1
    evaluated=$((SECONDS - from - described - trained))
    "$python" - "$work/eval.json" "$described" "$trained" "$evaluated" > "$out/whole.json" << 'END'
import json, sys
names = ("describe", "train", "eval")
seconds = dict(zip(names, map(int, sys.argv[2:]), strict=True))
print(json.dumps({"seconds": seconds, "eval": json.load(open(sys.argv[1]))}, indent=1))
END
    cat "$out/whole.json"
}

if [ -z "$data" ]; then
    skag simulate "$work/made" --device cpu -q > "$work/log" &&
        skag convert "$work/made/recordings.pkl" "$work/data.h5" --classes "$work/made/classes.txt" -q >> "$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    data=$work/data.h5
fi
if [ -n "$toy" ]; then
    step=(--batch 4 --variants plain skag skag-compiled) scoring=(--names 5 --tries 1 --batch 2)
else
    step=(--batch 64 --variants plain skag skag-compiled all-bodies) scoring=(--names 10,60,400 --batch 8)
fi
export -f whole skag
export python data toy device work out
cd "$root" || exit 1
part step 120 "$python" benchmarks/train_step.py --device $device "${step[@]}" $toy --out "$out/step.json"
part whole 150 bash -c whole
part stages 140 "$python" benchmarks/speed.py steps "$data" --device $device --base-model "$base" $toy --out "$out/stages.json"
part scoring 60 "$python" benchmarks/candidate_scoring.py --device $device --base-model "$base" "${scoring[@]}" --out "$out/scoring.json"
echo "== $((SECONDS - began)) s in all, results in $out"
exit $failed
