"""The whole configuration."""

from typing import Self

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hepcli.config.rules import faults_across_tables
from hepcli.settings import (
    STRICT,
    CheckpointSettings,
    CodeSettings,
    DataSettings,
    Faults,
    GradientSettings,
    HardwareSettings,
    HomeostasisSettings,
    NetworkSettings,
    OptimizerSettings,
    RelaxationSettings,
    RunSettings,
)


class Config(BaseModel):
    """Everything that decides what a run computes, one attribute for each table."""

    model_config = STRICT

    run: RunSettings
    data: DataSettings
    network: NetworkSettings
    relaxation: RelaxationSettings = Field(default_factory=RelaxationSettings)
    gradient: GradientSettings
    homeostasis: HomeostasisSettings = Field(default_factory=HomeostasisSettings)
    optimizer: OptimizerSettings
    hardware: HardwareSettings = Field(default_factory=HardwareSettings)
    checkpoints: CheckpointSettings = Field(default_factory=CheckpointSettings)
    code: CodeSettings = CodeSettings()

    @model_serializer(mode="wrap")
    def _without_empty_code(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Runs without own components have no [code] table."""
        tables: dict[str, object] = dump(self)
        if not self.code.files:
            tables.pop("code", None)
        return tables

    @model_validator(mode="after")
    def _check_across_tables(self) -> Self:
        faults = faults_across_tables(self)
        if faults:
            raise Faults(faults)
        return self
