"""llama.cpp's C interface as the wheel xllamacpp exports it: what the engine calls, and no more.

The wheel's own classes serve HTTP and tell neither all ids nor all scores; docs/decisions/0020 says
why its C functions are called instead. C knows no names, so a build whose structures lie otherwise
would read our numbers as others': only the build that was tried is used, and it has to hand out the
defaults that are known of it.
"""

import ctypes
import importlib.util
import sys
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_int8, c_int32, c_uint32, c_void_p
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from worker.inference.engine import EngineError

VERSION = "2026.10.11549"  # of the wheel
_LLAMA_VERSION, _GGML_VERSION = b"0.6.0-dev", b"0.26.0"
FLASH = 1  # LLAMA_FLASH_ATTN_TYPE_ENABLED
_ERROR = 4  # a level of the log


class ModelParams(ctypes.Structure):
    """llama_model_params."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int),
        ("load_mode", c_int),
        ("lazy_mode", c_int),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )


class ContextParams(ctypes.Structure):
    """llama_context_params."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int),
        ("rope_scaling_type", c_int),
        ("pooling_type", c_int),
        ("attention_type", c_int),
        ("flash_attn_type", c_int),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        # Three pointers, all null by default: the abort callback, its data and one that the headers
        # at hand do not name. None of them is set here.
        ("pointers", c_void_p * 3),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", ctypes.c_size_t),
        ("ctx_other", c_void_p),
    )


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


# What this build's default structures hold; fields that are not named hold nothing but zeros.
_MODEL_DEFAULTS = {
    **{"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1},
    "use_extra_bufts": True,
}
_CONTEXT_DEFAULTS = {
    **{"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_outputs_max_per_seq": 1},
    **{"n_threads": 4, "n_threads_batch": 4, "type_k": 1, "type_v": 1, "flash_attn_type": -1},
    **{"rope_scaling_type": -1, "pooling_type": -1, "attention_type": -1},
    **{"yarn_ext_factor": -1, "yarn_attn_factor": -1, "yarn_beta_fast": -1, "yarn_beta_slow": -1},
    **{"defrag_thold": -1, "offload_kqv": True, "no_perf": True, "op_offload": True},
    "swa_full": True,
}
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_version": (c_char_p, []),
    "ggml_version": (c_char_p, []),
    "llama_log_set": (None, [c_void_p, c_void_p]),
    "llama_backend_init": (None, []),
    "llama_model_default_params": (ModelParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_tokenize": (
        c_int32,
        [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool],
    ),
    "llama_context_default_params": (ContextParams, []),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_free": (None, [c_void_p]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_seq_rm": (c_bool, [c_void_p, c_int32, c_int32, c_int32]),
    "llama_set_n_threads": (None, [c_void_p, c_int32, c_int32]),
    "llama_set_abort_callback": (None, [c_void_p, c_void_p, c_void_p]),
    "llama_adapter_lora_init": (c_void_p, [c_void_p, c_char_p]),
    "llama_adapter_lora_free": (None, [c_void_p]),
    "llama_set_adapters_lora": (
        c_int32,
        [c_void_p, POINTER(c_void_p), ctypes.c_size_t, POINTER(c_float)],
    ),
    "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [Batch]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
}


@cache
def load() -> Any:
    """Open the library, once a process, after looking whether it is the one that was tried.

    Raises:
        EngineError: it is missing, or another build.
    """
    path = _library()
    found = metadata.version("xllamacpp")
    if found != VERSION:
        raise _unknown(f"xllamacpp {found}")
    try:
        lib = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise _unknown(str(error)) from None
    check(lib)
    lib.llama_log_set(ctypes.cast(_LOG, c_void_p), None)
    lib.llama_backend_init()
    return lib


def check(lib: Any) -> None:
    """Compare what a build says of itself, and its default structures, with what is known.

    Raises:
        EngineError: they differ, so its structures may lie otherwise.
    """
    if (lib.llama_version(), lib.ggml_version()) != (_LLAMA_VERSION, _GGML_VERSION):
        raise _unknown(f"llama.cpp {lib.llama_version().decode(errors='replace')}")
    for params, defaults in (
        (lib.llama_model_default_params(), _MODEL_DEFAULTS),
        (lib.llama_context_default_params(), _CONTEXT_DEFAULTS),
    ):
        for name, *_ in params._fields_:
            value = getattr(params, name)
            plain = any(value) if isinstance(value, ctypes.Array) else value or 0
            if plain != defaults.get(name, 0):
                raise _unknown(f"its {name} is {plain}")


def _library() -> Path:
    spec = importlib.util.find_spec("xllamacpp")
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in Path(folder).glob("xllamacpp*.so")]
    if not files:
        raise EngineError("llama.cpp is not installed (xllamacpp); “make setup” installs it.")
    return files[0]


def _unknown(what: str) -> EngineError:
    return EngineError(
        f"This build of llama.cpp is not the one that Etude knows ({what}); install xllamacpp "
        f"{VERSION}, as “make setup” does."
    )


def _log(level: int, text: bytes, _data: int | None) -> None:
    # It tells of files and tensors, never of what is asked; all but errors is for its developers.
    if level == _ERROR:
        sys.stderr.write(text.decode(errors="replace"))


_LOG = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)(_log)  # kept: llama.cpp holds no reference
