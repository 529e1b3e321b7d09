"""Tensors of tiny pipelines under the names of the original code, as released single files have them.

Written from those names (CompVis' latent diffusion, OpenCLIP, Stability's SD 3, Black Forest Labs' FLUX), the
inverse of what diffusers does when it reads such a file.
"""

import re

import torch
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET = {
    r"time_embedding\.linear_1": "time_embed.0",
    r"time_embedding\.linear_2": "time_embed.2",
    r"add_embedding\.linear_1": "label_emb.0.0",
    r"add_embedding\.linear_2": "label_emb.0.2",
    r"conv_in": "input_blocks.0.0",
    r"conv_norm_out": "out.0",
    r"conv_out": "out.2",
    r"mid_block\.resnets\.0": "middle_block.0",
    r"mid_block\.attentions\.0": "middle_block.1",
    r"mid_block\.resnets\.1": "middle_block.2",
}
VAE = {
    r"mid_block\.resnets\.0": "mid.block_1",
    r"mid_block\.resnets\.1": "mid.block_2",
    r"mid_block\.attentions\.0": "mid.attn_1",
    r"conv_norm_out": "norm_out",
    r"conv_shortcut": "nin_shortcut",
    r"down_blocks\.(\d)\.resnets": r"down.\1.block",
    r"down_blocks\.(\d)\.downsamplers\.0": r"down.\1.downsample",
    r"group_norm": "norm",
    r"to_(q|k|v)": r"\1",
    r"to_out\.0": "proj_out",
}
OPEN_CLIP = {
    r"^embeddings\.position_embedding\.weight": "positional_embedding",
    r"^embeddings\.": "",
    r"^final_layer_norm": "ln_final",
    r"^encoder\.layers": "transformer.resblocks",
    r"layer_norm(\d)": r"ln_\1",
    r"mlp\.fc1": "mlp.c_fc",
    r"mlp\.fc2": "mlp.c_proj",
    r"self_attn\.out_proj": "attn.out_proj",
}
SD3 = {
    r"pos_embed\.pos_embed": "pos_embed",
    r"pos_embed\.proj": "x_embedder.proj",
    r"time_text_embed\.timestep_embedder\.linear_1": "t_embedder.mlp.0",
    r"time_text_embed\.timestep_embedder\.linear_2": "t_embedder.mlp.2",
    r"time_text_embed\.text_embedder\.linear_1": "y_embedder.mlp.0",
    r"time_text_embed\.text_embedder\.linear_2": "y_embedder.mlp.2",
    r"transformer_blocks\.(\d+)\.attn\.to_out\.0": r"joint_blocks.\1.x_block.attn.proj",
    r"transformer_blocks\.(\d+)\.attn\.to_add_out": r"joint_blocks.\1.context_block.attn.proj",
    r"transformer_blocks\.(\d+)\.norm1\.linear": r"joint_blocks.\1.x_block.adaLN_modulation.1",
    r"transformer_blocks\.(\d+)\.norm1_context\.linear": (
        r"joint_blocks.\1.context_block.adaLN_modulation.1"
    ),
    r"transformer_blocks\.(\d+)\.ff\.net\.0\.proj": r"joint_blocks.\1.x_block.mlp.fc1",
    r"transformer_blocks\.(\d+)\.ff\.net\.2": r"joint_blocks.\1.x_block.mlp.fc2",
    r"transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj": r"joint_blocks.\1.context_block.mlp.fc1",
    r"transformer_blocks\.(\d+)\.ff_context\.net\.2": r"joint_blocks.\1.context_block.mlp.fc2",
    r"norm_out\.linear": "final_layer.adaLN_modulation.1",
    r"proj_out": "final_layer.linear",
}
FLUX = {
    r"time_text_embed\.timestep_embedder\.linear_1": "time_in.in_layer",
    r"time_text_embed\.timestep_embedder\.linear_2": "time_in.out_layer",
    r"time_text_embed\.text_embedder\.linear_1": "vector_in.in_layer",
    r"time_text_embed\.text_embedder\.linear_2": "vector_in.out_layer",
    r"time_text_embed\.guidance_embedder\.linear_1": "guidance_in.in_layer",
    r"time_text_embed\.guidance_embedder\.linear_2": "guidance_in.out_layer",
    r"context_embedder": "txt_in",
    r"x_embedder": "img_in",
    r"single_transformer_blocks\.(\d+)\.norm\.linear": r"single_blocks.\1.modulation.lin",
    r"single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight": r"single_blocks.\1.norm.query_norm.scale",
    r"single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight": r"single_blocks.\1.norm.key_norm.scale",
    r"single_transformer_blocks\.(\d+)\.proj_out": r"single_blocks.\1.linear2",
    r"^transformer_blocks\.(\d+)\.norm1\.linear": r"double_blocks.\1.img_mod.lin",
    r"^transformer_blocks\.(\d+)\.norm1_context\.linear": r"double_blocks.\1.txt_mod.lin",
    r"^transformer_blocks\.(\d+)\.attn\.norm_q\.weight": (
        r"double_blocks.\1.img_attn.norm.query_norm.scale"
    ),
    r"^transformer_blocks\.(\d+)\.attn\.norm_k\.weight": r"double_blocks.\1.img_attn.norm.key_norm.scale",
    r"^transformer_blocks\.(\d+)\.attn\.norm_added_q\.weight": (
        r"double_blocks.\1.txt_attn.norm.query_norm.scale"
    ),
    r"^transformer_blocks\.(\d+)\.attn\.norm_added_k\.weight": (
        r"double_blocks.\1.txt_attn.norm.key_norm.scale"
    ),
    r"^transformer_blocks\.(\d+)\.attn\.to_out\.0": r"double_blocks.\1.img_attn.proj",
    r"^transformer_blocks\.(\d+)\.attn\.to_add_out": r"double_blocks.\1.txt_attn.proj",
    r"^transformer_blocks\.(\d+)\.ff\.net\.0\.proj": r"double_blocks.\1.img_mlp.0",
    r"^transformer_blocks\.(\d+)\.ff\.net\.2": r"double_blocks.\1.img_mlp.2",
    r"^transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj": r"double_blocks.\1.txt_mlp.0",
    r"^transformer_blocks\.(\d+)\.ff_context\.net\.2": r"double_blocks.\1.txt_mlp.2",
    r"norm_out\.linear": "final_layer.adaLN_modulation.1",
    r"^proj_out": "final_layer.linear",
}
# Matrices that the original code has as one: the first's name, all names, the one's name.
JOINED_3 = {
    r"transformer_blocks\.(\d+)\.attn\.to_q\.(\w+)": (
        ("to_q", "to_k", "to_v"),
        r"joint_blocks.\1.x_block.attn.qkv.\2",
    ),
    r"transformer_blocks\.(\d+)\.attn\.add_q_proj\.(\w+)": (
        ("add_q_proj", "add_k_proj", "add_v_proj"),
        r"joint_blocks.\1.context_block.attn.qkv.\2",
    ),
}
JOINED_FLUX = {
    r"single_transformer_blocks\.(\d+)\.attn\.to_q\.(\w+)": (
        ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        r"single_blocks.\1.linear1.\2",
    ),
    r"transformer_blocks\.(\d+)\.attn\.to_q\.(\w+)": (
        ("to_q", "to_k", "to_v"),
        r"double_blocks.\1.img_attn.qkv.\2",
    ),
    r"transformer_blocks\.(\d+)\.attn\.add_q_proj\.(\w+)": (
        ("add_q_proj", "add_k_proj", "add_v_proj"),
        r"double_blocks.\1.txt_attn.qkv.\2",
    ),
}
JOINED_CLIP = {
    r"^encoder\.layers\.(\d+)\.self_attn\.q_proj\.(\w+)": (
        ("q_proj", "k_proj", "v_proj"),
        r"transformer.resblocks.\1.attn.in_proj_\2",
    )
}


def renamed(tensors, names, joined=None):
    """Each name by every rule that fits; joined ones first."""
    left, found = dict(tensors), {}
    for pattern, (parts, made) in (joined or {}).items():
        for name in [name for name in left if re.fullmatch(pattern, name)]:
            rows = [left.pop(name.replace(parts[0], part)) for part in parts]
            found[re.sub(pattern, made, name)] = torch.cat(rows)
    for name, value in left.items():
        for pattern, made in names.items():
            name = re.sub(pattern, made, name)
        found[name] = value
    return found


def unet(network):
    """`input_blocks`, `middle_block` and `output_blocks`, counted through."""
    layers, found = network.config.layers_per_block + 1, {}
    for name, value in network.state_dict().items():
        place = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.", name)
        if place is not None:
            way, block, kind, layer = place.groups()
            index = int(block) * layers + int(layer) + (way == "down")
            slot = {"resnets": "0", "attentions": "1"}.get(kind)
            if kind == "downsamplers":
                index, slot = (int(block) + 1) * layers, "0.op"
            if kind == "upsamplers":
                index = (int(block) + 1) * layers - 1
                attends = hasattr(network.up_blocks[int(block)], "attentions")
                slot = "2.conv" if attends else "1.conv"
            rest = name[place.end() :].removeprefix("conv." if "sampl" in kind else "")
            side = "input" if way == "down" else "output"
            name = f"{side}_blocks.{index}.{slot}.{rest}"
        for pattern, made in UNET.items():
            name = re.sub(f"^{pattern}", made, name)
        if ".attentions" not in name and not re.search(r"transformer_blocks", name):
            for part, made in RESNET.items():
                name = re.sub(rf"\.{part}\.", f".{made}.", name)
        found[name] = value
    return found


def autoencoder(vae):
    found = {}
    last = len(vae.config.block_out_channels) - 1
    for name, value in renamed(vae.state_dict(), VAE).items():
        place = re.match(r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers\.0)", name)
        if place is not None:
            what = {"resnets": "block", "upsamplers.0": "upsample"}[place[2]]
            name = f"decoder.up.{last - int(place[1])}.{what}{name[place.end() :]}"
        attends = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name)
        found[name] = value[:, :, None, None] if attends else value
    return found


def clip(encoder):
    return {
        f"text_model.{name.removeprefix('text_model.')}": value
        for name, value in encoder.state_dict().items()
    }


def open_clip(encoder):
    tensors = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    projection = tensors.pop("text_projection.weight", None)
    found = renamed(tensors, OPEN_CLIP, JOINED_CLIP)
    return found if projection is None else found | {"text_projection": projection.T}


def swapped(tensors, *names):
    """Scale and shift, the other way round."""
    for name in names:
        for kind in ("weight", "bias"):
            tensors[f"{name}.{kind}"] = torch.cat(tensors[f"{name}.{kind}"].chunk(2)[::-1])
    return tensors


def sd3(network):
    found = renamed(network.state_dict(), SD3, JOINED_3)
    last = network.config.num_layers - 1
    return swapped(
        found,
        f"joint_blocks.{last}.context_block.adaLN_modulation.1",
        "final_layer.adaLN_modulation.1",
    )


def flux(network):
    return swapped(
        renamed(network.state_dict(), FLUX, JOINED_FLUX), "final_layer.adaLN_modulation.1"
    )


def original(pipe, form):
    """All of a pipeline under the original names; `form` is 1, 2, "xl", 3 or "flux"."""
    network = pipe.transformer if form in (3, "flux") else pipe.unet
    parts = {"first_stage_model.": autoencoder(pipe.vae)}
    if form == "flux":
        return flux(network)
    parts["model.diffusion_model."] = sd3(network) if form == 3 else unet(network)
    if form == 1:
        parts["cond_stage_model.transformer."] = clip(pipe.text_encoder)
    elif form == 2:
        parts["cond_stage_model.model."] = open_clip(pipe.text_encoder)
    elif form == "xl":
        parts["conditioner.embedders.0.transformer."] = clip(pipe.text_encoder)
        parts["conditioner.embedders.1.model."] = open_clip(pipe.text_encoder_2)
    else:
        for name, encoder in (("clip_l", pipe.text_encoder), ("clip_g", pipe.text_encoder_2)):
            tensors = clip(encoder)
            tensors["text_projection.weight"] = tensors.pop("text_model.text_projection.weight")
            parts[f"text_encoders.{name}.transformer."] = tensors
    return {prefix + name: value for prefix, own in parts.items() for name, value in own.items()}


def write_file(path, tensors):
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    return path
