"""The configuration: a file, the environment, flags; the later wins. Every fault is one line with the key's path."""

from __future__ import annotations

from ajc_bridge.config.change import changed_keys, restart_needed
from ajc_bridge.config.load import DEFAULT_FILE, ConfigError, load_config
from ajc_bridge.config.model import (
    BackoffConfig,
    BridgeConfig,
    Config,
    DlqConfig,
    ExecConfig,
    HttpConfig,
    LogConfig,
    NatsConfig,
    QueueConfig,
    RetentionConfig,
    TlsConfig,
)

__all__ = [
    "DEFAULT_FILE",
    "BackoffConfig",
    "BridgeConfig",
    "Config",
    "ConfigError",
    "DlqConfig",
    "ExecConfig",
    "HttpConfig",
    "LogConfig",
    "NatsConfig",
    "QueueConfig",
    "RetentionConfig",
    "TlsConfig",
    "changed_keys",
    "load_config",
    "restart_needed",
]
