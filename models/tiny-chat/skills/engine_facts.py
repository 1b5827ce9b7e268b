"""What llmengine is, its commands and its settings."""

from __future__ import annotations

from random import Random

from conversation import Conversation, ask
from fillers import Fillers
from phrasing import style

WHAT = ("llmengine is an engine and command line over llama.cpp. It runs GGUF models, batches "
        "many requests at once and reuses prompt prefixes.")
COMMANDS = ("The commands are llmengine chat, llmengine run, llmengine serve, llmengine doctor "
            "and llmengine config.")

FACTS: tuple[tuple[str, str], ...] = (
    ("what is llmengine?|tell me about llmengine|what does llmengine do?|explain llmengine|"
     "describe llmengine|what is this program?", WHAT),
    ("which commands does llmengine have?|what are the commands?|list the commands of llmengine|"
     "what commands are there?|show me the commands", COMMANDS),
    ("what does llmengine chat do?|how do i chat?|how do i start a chat?|how can i talk in the "
     "terminal?|what is llmengine chat?", "llmengine chat lets you talk in the terminal."),
    ("what does llmengine run do?|how do i get one answer?|how do i run one prompt?|what is "
     "llmengine run?|how do i ask one question?",
     'llmengine run "prompt" gives one answer. It reads stdin too.'),
    ("how do i pipe text into llmengine?|can llmengine read stdin?|how do i write a commit message?"
     "|can i pipe a file to llmengine?|does llmengine run read stdin?",
     'Yes: git diff | llmengine run "write a commit message".'),
    ("what does llmengine serve do?|how do i start the server?|how do i start a server?|what is "
     "llmengine serve?|how do i run the api?|is there an openai api?|how do i serve a model?",
     "llmengine serve starts an OpenAI-compatible HTTP server, by default at "
     "http://127.0.0.1:8000."),
    ("what does llmengine doctor do?|how do i check my machine?|what is llmengine doctor?|"
     "how do i see my devices?|how do i find problems?",
     "llmengine doctor shows the version, build, devices, memory and the model found."),
    ("what does llmengine config do?|how do i see my settings?|what is llmengine config?|"
     "how do i check my config?|how do i show the config?|how do i make a config file?",
     "llmengine config show prints the settings, init writes a file and check tests it."),
    ("what does make chat do?", "make chat starts a chat in the terminal."),
    ("what does make test do?|how do i run the tests?", "make test runs the tests."),
    ("what does make serve do?", "make serve starts the HTTP server."),
    ("where do settings come from?|how do i configure llmengine?|in which order are settings read?"
     "|which setting wins?|do flags win over the config file?|how are settings read?",
     "Settings come from config.toml, then LLM_ENGINE_* variables, then flags. The later one "
     "wins."),
    ("which chat commands are there?|what are the chat commands?|what slash commands are there?|"
     "list the chat commands",
     "In the chat: /help /clear /system /set /save /load /retry /undo /stats /exit."),
    ("which model formats work?|what models can llmengine run?|which file format does llmengine "
     "use?|what format are the models?", "llmengine runs GGUF models."),
    ("what is llmengine built on?|does llmengine use llama.cpp?|what runs the models?",
     "llmengine is built over llama.cpp."),
    ("what is the default port?|which port does the server use?|on which port is the server?",
     "The default port is 8000."),
    ("what is the default host?|which host does the server use?|what address does the server "
     "use?", "The default host is 127.0.0.1."),
    ("what is the address of the server?|what is the url of the server?|where is the server?",
     "By default it is http://127.0.0.1:8000."),
    ("which eviction policies are there?|what eviction policies can i use?",
     "The eviction policies are lru, lfu and fifo."),
    ("which devices can i use?|what devices are there?|which devices does llmengine support?",
     "The devices are auto, cpu, cuda and metal."),
    ("which config sections are there?|what sections does config.toml have?|list the config "
     "sections",
     "The sections are server, model, cache, performance, logging, metrics and sampling."),
    ("where are the metrics?|what is the metrics endpoint?|how do i see metrics?",
     "The metrics are at /metrics."),
    ("how do i use another model?|how do i change the model?|how do i load my own model?",
     "Set model_path in the model section, or LLM_ENGINE_MODEL_PATH."),
    ("how do i change the port?|how do i use another port?",
     "Set port in the server section, or LLM_ENGINE_PORT."),
    ("how do i set an api key?|how do i protect the server?",
     "Set api_key in the server section, or LLM_ENGINE_API_KEY."),
    ("how do i turn off the cache?|how do i disable the cache?",
     "Set enabled to false in the cache section, or LLM_ENGINE_CACHE_ENABLED."),
    ("how do i use the gpu?|how do i run on a gpu?",
     "Set device to cuda or metal in the model section, or LLM_ENGINE_DEVICE."),
    ("how do i make the context longer?|how do i change the context length?",
     "Set max_sequence_length in the model section, or LLM_ENGINE_MAX_SEQUENCE_LENGTH."),
    ("how do i change the log level?|how do i get more logs?",
     "Set level in the logging section, or LLM_ENGINE_LOG_LEVEL."),
    ("how do i make answers repeatable?|how do i get the same answer twice?",
     "Set deterministic in the performance section and a seed in the sampling section."),
    ("can llmengine handle many requests?|does llmengine batch requests?|what is batching?",
     "Yes, llmengine batches many requests at once."),
    ("what is the prefix cache?|does llmengine reuse prompts?|what does the cache do?",
     "llmengine reuses prompt prefixes, so a shared beginning is not computed again."),
)

# key: (section, what it sets)
KEYS = {
    "host": ("server", "the address the server listens on, 127.0.0.1 by default"),
    "port": ("server", "the port of the server, 8000 by default"),
    "api_key": ("server", "the key that clients must send"),
    "max_concurrent_requests": ("server", "how many requests run at once, 16 by default"),
    "max_queue": ("server", "how many requests may wait"),
    "enable_cors": ("server", "whether browsers on other sites may call the server"),
    "strict_parameters": ("server", "whether unknown parameters are refused"),
    "model_path": ("model", "the path of the GGUF file"),
    "device": ("model", "the device: auto, cpu, cuda or metal"),
    "max_sequence_length": ("model", "the longest context in tokens"),
    "gpu_layers": ("model", "how many layers go to the GPU"),
    "max_size_mb": ("cache", "the size of the cache in megabytes"),
    "eviction_policy": ("cache", "what leaves the cache first: lru, lfu or fifo"),
    "max_sequences": ("cache", "how many sequences the cache keeps"),
    "batch_size": ("performance", "how many sequences are decoded together"),
    "memory_pool_size_mb": ("performance", "the size of the memory pool in megabytes"),
    "use_mmap": ("performance", "whether the model file is mapped into memory"),
    "threads": ("performance", "how many CPU threads are used"),
    "max_itl_ms": ("performance", "the longest wait between two tokens in milliseconds"),
    "deterministic": ("performance", "whether the same prompt gives the same answer"),
    "log_requests": ("logging", "whether each request is logged"),
    "endpoint": ("metrics", "the path of the metrics, /metrics"),
    "temperature": ("sampling", "how random the answer is"),
    "top_p": ("sampling", "the share of probability that is kept"),
    "top_k": ("sampling", "how many tokens are considered"),
    "min_p": ("sampling", "the least probability relative to the best token"),
    "seed": ("sampling", "the start of the random numbers"),
    "max_tokens": ("sampling", "the most tokens of an answer"),
}
KEY_QUESTIONS = ("what does {k} do?", "what is {k}?", "explain {k}", "what does {k} set?",
                 "what is the setting {k}?", "tell me about {k}", "what is {k} for?",
                 "in which section is {k}?", "where do i set {k}?", "explain the {k} setting",
                 "how do i set {k}?")
SLASH = {
    "/help": "shows the help", "/clear": "starts over", "/system": "sets the system prompt",
    "/set": "changes a setting", "/save": "saves the chat", "/load": "loads a chat",
    "/retry": "asks for another answer", "/undo": "takes the last turn back",
    "/stats": "shows the figures", "/exit": "ends the chat",
}
SLASH_QUESTIONS = ("what does {k} do?", "what is {k}?", "explain {k}", "what is {k} for?",
                   "what does {k} do in the chat?")


def _draw(rng: Random) -> tuple[str, str]:
    kind = rng.random()
    if kind < 0.55:
        phrases, answer = rng.choice(FACTS)
        return style(rng, rng.choice(phrases.split("|"))), answer
    if kind < 0.88:
        key = rng.choice(list(KEYS))
        section, meaning = KEYS[key]
        question = style(rng, rng.choice(KEY_QUESTIONS))
        return question.replace("{k}", key), f"{key} in [{section}] sets {meaning}."
    command = rng.choice(list(SLASH))
    question = style(rng, rng.choice(SLASH_QUESTIONS))
    return question.replace("{k}", command), f"{command} {SLASH[command]}."


def sample(rng: Random, fillers: Fillers) -> Conversation:
    while True:
        question, answer = _draw(rng)
        if fillers.allows("fact", question):
            return ask(question, answer)
