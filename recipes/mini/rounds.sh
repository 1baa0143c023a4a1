#!/bin/bash
# Rounds of longer and longer training of mini, with a candidate for publishing at the end of each. The same command goes on
# where it was; SIGTERM to the training process ends the stage at hand with a checkpoint.
#
#   nice -n 19 bash recipes/mini/rounds.sh DATA OUT [START]
#
# DATA: what prepare.py made. OUT: a folder for runs. START: trained tensors to begin from, such as the package's own.
set -u
data=$1 out=$2 start=${3:-} here=$(cd "$(dirname "$0")" && pwd) python=${PYTHON:-python}
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=68719476736

train() { # train RUN ARGS...
  until "$python" "$here/train.py" --data "$data" --out "$out/$1" "${@:2}" >> "$out/$1.log" 2>&1; do sleep 60; done
}

round() { # round NUMBER MINUTES_OF_SEE MINUTES_OF_TELL SHARE_TOLD_THE_TRUTH, minutes counted from the first round's start
  local candidate=$out/candidates/$1
  [ -f "$candidate/done" ] && return
  train see ${start:+--start "$start"} --only see --minutes "$2"
  train tell --start "$out/see/trained.safetensors" --texts "$out/texts.safetensors" --only tell --true "$4" --minutes "$3"
  mkdir -p "$candidate"
  "$python" "$here/publish.py" "$out/see" "$out/tell" --to "$candidate" &&
    "$python" "$here/evaluate.py" --data "$data" --trained "$candidate/trained.safetensors" --samples 40 --no-blind \
      --out "$candidate/results.json" > "$candidate/results.log" 2>&1
  touch "$candidate/done"
}

mkdir -p "$out"
[ -f "$out/texts.safetensors" ] || "$python" "$here/texts.py" --out "$out/texts.safetensors"
round 1 20 20 1
round 2 80 88 0.25
round 3 200 300 0.2
round 4 400 800 0.1
