#!/usr/bin/env bash
# All that a GPU machine that one has for minutes only is wanted for, in one command: does everything work there, how
# fast is it, and training for the rest of the time. The machine needs PyTorch, but no network. First, on one that has a
# network, all that is carried there is put into one folder:
#
#   scripts/gpu_sprint.sh prepare FOLDER --pictures DIR [--validation DIR] [--state RUN] [--limit MIB]
#
# the wheels, DIR's pictures re-encoded into what room there is (the most detailed first), those to validate on as they
# are, and the run to go on from. Pictures that excluded.txt in the --validation folder names are left out. Then, there:
#
#   scripts/gpu_sprint.sh [--carried FOLDER] [--output FOLDER] [--deadline SECONDS] [--commit NAME] [--device NAME]
#                         [--train-args "ARGUMENTS"] [STAGE...]
#
# Stages: smoke, measure, train; all three unless some are named. tests and sanitizer, pytest's of the GPU, run only when
# named. It is over by the deadline, 590 seconds from now unless told otherwise. What it finds is added to the record,
# gpu.json and gpu.md in the output folder (benchmarks/ unless told otherwise), row by row; the run in training is
# copied to run/ in there every minute, and is what --state takes for the next time. --commit says what is measured
# where there is no git to ask. --train-args, or the file train.args in the carried folder, holds options for gsr train.
# --device cpu rehearses it all, small: do that before. Nothing is installed: gsrcli runs from this checkout with the
# Python on the PATH.
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
  # In the background: only the tests draw on the CPU.
  # shellcheck disable=SC2046 (several flags)
  (g++ $(cat "$repository/csrc/cpu_flags") -shared -I"$repository/csrc" "$repository/csrc/rasterize_cpu.cpp" \
    -o "$work/library.so" && mv "$work/library.so" "$library") &
fi
"$python" "$repository/scripts/gpu_sprint.py" --spent "$SECONDS" "$@"
