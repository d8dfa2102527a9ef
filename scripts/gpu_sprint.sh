#!/usr/bin/env bash
# Make the most of a GPU machine that is available for minutes only, in one command: check that everything works, measure
# how fast it is, and train for the rest of the time. The machine needs PyTorch, but no network. First, on a machine with
# a network, put everything to be carried there into one folder:
#
#   scripts/gpu_sprint.sh prepare FOLDER --pictures DIR [--validation DIR] [--state RUN] [--limit MIB]
#
# It gets wheels, the training pictures re-encoded to fit the limit (the most detailed first), unchanged pictures to
# validate on, and the run to continue. Pictures named by excluded.txt in the --validation folder are left out. Then, on
# the GPU machine:
#
#   scripts/gpu_sprint.sh [--carried FOLDER] [--output FOLDER] [--deadline SECONDS] [--commit NAME] [--device NAME]
#                         [--train-args "ARGUMENTS"] [STAGE...]
#
# Stages: smoke, measure and train by default; tests and sanitizer, which run the GPU tests, only if named. It ends by the
# deadline, 590 seconds by default. Results are added row by row to the record, gpu.json and gpu.md in the output folder
# (benchmarks/ by default). The run in training is copied to its subfolder run/ every minute, for --state next time.
# --commit names the commit where git is not available. --train-args, or the file train.args in the carried folder, holds
# options for gsr train. --device cpu is a small rehearsal: try it first. Nothing is installed: gsrcli runs from this
# checkout with the Python on the PATH.
set -euo pipefail
SECONDS=0
repository=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
export PYTHONPATH="$repository${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

if [ "${1:-}" = prepare ]; then
  shift
  exec "$python" "$repository/scripts/sprint_prepare.py" "$@"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
previous=''
for argument in "$@"; do
  if [ "$previous" = --carried ] && compgen -G "$argument/wheels/*.whl" >/dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
      --root-user-action ignore --target "$work/site" "$argument"/wheels/*.whl || echo "no wheels installed" >&2
    export PYTHONPATH="$PYTHONPATH:$work/site"
  fi
  previous=$argument
done
library=$repository/gsrcli/_rasterize_cpu.so
if command -v g++ >/dev/null && [ ! "$library" -nt "$repository/csrc/rasterize_cpu.cpp" ]; then
  # In the background, since only the tests draw on the CPU.
  # shellcheck disable=SC2046 (several flags)
  (g++ $(cat "$repository/csrc/cpu_flags") -shared -I"$repository/csrc" "$repository/csrc/rasterize_cpu.cpp" \
    -o "$work/library.so" && mv "$work/library.so" "$library") &
fi
"$python" "$repository/scripts/gpu_sprint.py" --spent "$SECONDS" "$@"
