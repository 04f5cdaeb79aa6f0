"""llama.cpp's own programs with a model made here: `llama_cpp.py text|perplexity|bench TYPE on|off [small]`.

`text` writes on from a prompt, always with the likeliest byte; `perplexity` judges a text; `bench` measures prompts and
writing. TYPE is one of llama-quantize's or F32; on or off: flash attention. Needs llama.cpp's programs and `gguf`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llama_model import Shape, write_model

WAY, KIND, FLASH = sys.argv[1:4]
SMALL = "small" in sys.argv[4:]
SHAPE = Shape(256, 2, 4, 2) if SMALL else Shape(2048, 8, 16, 8)
TOKENS = 24 if SMALL else 256
PROMPT = "A GPU in one machine, a program in another; what lies between them is a matter of patience. "


def model(folder: Path) -> Path:
    """The model with weights of the wanted type. Making it is no part of what is compared: no GPU is shown to it."""
    plain = folder / "F32.gguf"
    write_model(plain, SHAPE)
    if KIND == "F32":
        return plain
    wanted = folder / f"{KIND}.gguf"
    quantise = ["llama-quantize", str(plain), str(wanted), KIND]
    subprocess.run(quantise, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, check=True)
    return wanted


def run_tool(*command: str) -> str:
    """What the tool writes to stdout; what it writes to stderr goes to this program's."""
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode("latin-1")


def write_text(path: Path) -> object:
    greedy = ("-n", str(TOKENS), "--temp", "0", "--seed", "1", "--ignore-eos", "-no-cnv", "--no-warmup")
    return run_tool("llama-completion", "-m", str(path), "-ngl", "99", "-fa", FLASH, *greedy, "-p", PROMPT)


def judge_text(path: Path) -> object:
    text = path.with_suffix(".txt")
    text.write_text(PROMPT * 8)
    context = 128 if SMALL else 512
    said = run_tool(
        *("llama-perplexity", "-m", str(path), "-ngl", "99", "-fa", FLASH, "-f", str(text)),
        *("-c", str(context), "-b", str(context), "--no-warmup", "--chunks", "2" if SMALL else "1"),
    )
    return re.findall(r"\[\d+\]([\d.]+)", said)


def measure(path: Path) -> object:
    flash = "1" if FLASH == "on" else "0"
    sizes = ("-p", "32", "-n", "8", "-r", "1") if SMALL else ("-p", "512", "-n", "128")
    rows = json.loads(run_tool("llama-bench", "-m", str(path), "-ngl", "99", "-fa", flash, "-o", "json", *sizes))
    for row in rows:
        sys.stderr.write(f"{row['n_prompt']} + {row['n_gen']} tokens: {row['avg_ts']:.1f} a second\n")
    return [{name: row[name] for name in ("backends", "model_n_params", "n_prompt", "n_gen")} for row in rows]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = model(Path(folder))
        start = time.perf_counter()
        output = {"text": write_text, "perplexity": judge_text, "bench": measure}[WAY](path)
        print(json.dumps({"output": output, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
