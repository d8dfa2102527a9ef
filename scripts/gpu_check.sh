#!/usr/bin/env bash
# Everything there is to check and to measure on a GPU, in one command, on a machine with PyTorch and no network:
#
#   scripts/gpu_check.sh [--wheels FOLDER] [--data FOLDER] [--output FOLDER] [--commit NAME] [--device NAME] [STAGE...]
#
# Stages: doctor, tests, sanitizer, bench, rasterizer, upscale, train; all of them unless some are named, each with its
# time limit. --commit says what is measured where there is no git to ask. --device cpu rehearses it all without a GPU.
# Nothing is installed: gsrcli runs from this checkout with the Python on the PATH, its CPU library compiled if there is
# a C++ compiler. Small packages that this Python lacks can be carried along as wheels; on a machine with a network
#
#   scripts/gpu_check.sh download FOLDER 3.12 [NAME...]
#
# fetches those named, or all that may be needed, for Python 3.12 on Linux. --data is a folder of pictures to train on
# for a minute; synthetic ones otherwise. The record, gpu.json and gpu.md, is left in the output folder, benchmarks/
# unless told otherwise: commit it.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}

if [ "${1:-}" = download ]; then
  folder=$2 version=$3
  shift 3
  names="${*:-annotated-doc annotated-types certifi charset-normalizer cuda-bindings cuda-core cuda-pathfinder filelock \
    hypothesis idna iniconfig markdown-it-py mdurl opencv-python-headless packaging pillow platformdirs pluggy psutil \
    pydantic pydantic-core pygments pytest requests rich safetensors shellingham sortedcontainers tqdm typer \
    typing-inspection urllib3}"
  platforms=$(for minor in 17 24 27 28 31 34; do echo "--platform manylinux_2_${minor}_x86_64"; done)
  for name in $names; do
    pin=$(sed -n "s/^\($name==[^; ]*\).*/\1/p" "$repository/constraints.txt" | tail -n 1)
    # shellcheck disable=SC2086 (several words)
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
      $platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest "$folder" "${pin:-$name}"
  done
  exit
fi

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --wheels)
      "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$2"/*.whl
      shift 2
      ;;
    *)
      arguments+=("$1")
      shift
      ;;
  esac
done
export PYTHONPATH="$repository:$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
if command -v g++ >/dev/null; then
  # As setup.py compiles it.
  g++ -std=c++17 -O3 -g0 -fPIC -shared -pthread -Wno-psabi -ffp-contract=fast -fno-math-errno -fno-trapping-math \
    -I"$repository/csrc" "$repository/csrc/rasterize_cpu.cpp" -o "$repository/gsrcli/_rasterize_cpu.so"
fi
"$python" "$repository/scripts/gpu_check.py" "${arguments[@]}"
