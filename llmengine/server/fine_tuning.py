"""/v1/fine_tuning/*: what OpenAI's API has and this server does without."""

from __future__ import annotations

from sanic import Blueprint, HTTPResponse, Request

from llmengine.errors import NotOffered

blueprint = Blueprint("fine_tuning")

_METHODS = ["GET", "HEAD", "POST", "DELETE"]


async def fine_tuning(_: Request, rest: str = "") -> HTTPResponse:
    raise NotOffered(
        "fine-tuning is not offered: this server answers with the GGUF model that it was started "
        "with; train elsewhere, merge LoRA adapters into the weights, convert them to GGUF and "
        "serve that file"
    )


for _path in ("/v1/fine_tuning", "/v1/fine_tuning/<rest:path>"):
    blueprint.add_route(fine_tuning, _path, methods=_METHODS, name=f"fine_tuning_{len(_path)}")
