"""/api/v1: the questions of `answers` over HTTP, described by OpenAPI, each with what its asker may see."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from finops_assets.base.errors import FinopsError
from finops_assets.evaluate.reports import TEAMS_BY, Basis
from finops_assets.evaluate.tokens import TOKENS_BY
from finops_assets.evaluate.unit_costs.figures import Grain
from finops_assets.explore.answers import Answers, Asked
from finops_assets.explore.newest_copy import Copies, NoCopy
from finops_assets.explore.people import NotAllowed
from finops_assets.explore.sign_in import person_of
from finops_assets.settings.model import Settings
from finops_assets.tables.envelope import SCHEMA_VERSION

Value = str | int | float | bool | None


class Days(BaseModel):
    """UTC days; `to` is exclusive."""

    from_: date = Field(alias="from")
    to: date


class CoverageOf(BaseModel):
    """Which days are in the figures."""

    whole: bool = Field(description="Is every day there, of every source, in its newest version?")
    days: int = Field(description="Days of the period with figures")
    days_in_period: int
    days_compared: int = Field(description="Days that are compared with their likes in the period before")
    days_missing: list[date] = Field(description="Days without figures of any source")
    sources_late: dict[str, list[date]] = Field(
        description="By source the days that others have figures of, and it has not"
    )
    sources_outdated: dict[str, list[date]] = Field(description="By source the days that show its last good version")
    notes: list[str] = Field(description="The same, and what was restated or may still change, in sentences")


class Envelope(BaseModel):
    """Rows, and what they are made of. Amounts are text with every digit; what is not known is null."""

    model_config = ConfigDict(extra="allow")

    schema_version: int = Field(json_schema_extra={"const": SCHEMA_VERSION})
    period: Days | None
    basis: str | None = Field(description="effective, billed or accrued")
    currency: str | None = Field(description="Of all amounts; null: each row says its own")
    coverage: CoverageOf | None
    published_at: str | None = Field(description="When the copy was published that was asked, UTC")
    command: str | None = Field(description="Prints the same in a terminal")
    rows: list[dict[str, Value]] = Field(description="Columns as in docs/reference/tables.md")


class Refusal(BaseModel):
    """Why there is no answer, and what is allowed."""

    error: str


First = Annotated[date | None, Query(alias="from", description="First UTC day; by default that of the newest month")]
End = Annotated[date | None, Query(alias="to", description="The day after the last")]
Cost = Annotated[Basis | None, Query(description="Which cost; by default effective")]
CurrencyCode = Annotated[
    str, Query(max_length=20, description="As billed, or `reporting`; by default that of the largest cost")
]
Filters = Annotated[list[str] | None, Query(description="COLUMN=VALUE; again for more, of one column either")]
Back = Annotated[Literal["30", "60", "90"], Query(description="So many days back from the newest")]
By = Annotated[str, Query(max_length=500, description="Columns between commas, see /columns")]
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "This cannot be answered; says why"},
    401: {"model": Refusal, "description": "Nobody is known to ask"},
    403: {"model": Refusal, "description": "Who asks may see nothing"},
    503: {"model": Refusal, "description": "There is no published copy yet"},
}


def status_of(error: FinopsError) -> int:
    """What is asked wrongly is the asker's to mend; that there is no copy is not."""
    match error:
        case NoCopy():
            return 503
        case NotAllowed():
            return 403
        case _:
            return 400


def _said(
    first: First = None, end: End = None, basis: Cost = None, currency: CurrencyCode = "", where: Filters = None
) -> Asked:
    return Asked(first, end, basis or "", currency, tuple(where or ()))


Said = Annotated[Asked, Depends(_said)]


def _answers(request: Request) -> Answers:
    state = request.app.state
    return Answers(state.settings, state.copies.of(person_of(request).reach))


Ours = Annotated[Answers, Depends(_answers)]
_BY_TEAM, _TOKENS_BY = ",".join(TEAMS_BY), ",".join(TOKENS_BY)
router = APIRouter()


@router.get("/columns", response_model=Envelope)
def columns(answers: Ours) -> JSONResponse:
    """What cost can be split and filtered by, its currencies, and the first and the last day with figures."""
    return JSONResponse(answers.columns())


@router.get("/costs", response_model=Envelope)
def costs(answers: Ours, said: Said, by: By = _BY_TEAM) -> JSONResponse:
    """What was spent, beside the like days of the period before."""
    return JSONResponse(answers.costs(said, by.split(",")))


@router.get("/coverage", response_model=Envelope)
def coverage(answers: Ours, said: Said) -> JSONResponse:
    """How each source's days stand: built, awaited, held."""
    return JSONResponse(answers.coverage(said))


@router.get("/budgets", response_model=Envelope)
def budgets(answers: Ours) -> JSONResponse:
    """Each budget as the last night judged it."""
    return JSONResponse(answers.budgets())


@router.get("/forecast", response_model=Envelope)
def forecast(answers: Ours) -> JSONResponse:
    """What the running month will have cost."""
    return JSONResponse(answers.forecast())


@router.get("/anomalies", response_model=Envelope)
def anomalies(answers: Ours, said: Said) -> JSONResponse:
    """What nobody expected, in the days and the currency that are asked for."""
    return JSONResponse(answers.anomalies(said))


@router.get("/deliveries", response_model=Envelope)
def deliveries(answers: Ours) -> JSONResponse:
    """Every delivery, and what became of it."""
    return JSONResponse(answers.deliveries())


@router.get("/unit-costs", response_model=Envelope)
def unit_costs(answers: Ours, said: Said, grain: Grain = "month") -> JSONResponse:
    """What one of something cost."""
    return JSONResponse(answers.unit_costs(said, grain))


@router.get("/commitments", response_model=Envelope)
def commitments(answers: Ours, days: Back = "30") -> JSONResponse:
    """Coverage and use of commitments by team, service and kind, and what one unit more would have saved and wasted."""
    return JSONResponse(answers.commitments(int(days)))


@router.get("/waste", response_model=Envelope)
def waste(answers: Ours) -> JSONResponse:
    """Charges that the bills show to be for nothing, with money, rows, certainty and why."""
    return JSONResponse(answers.waste())


@router.get("/tokens", response_model=Envelope)
def tokens(answers: Ours, said: Said, by: By = _TOKENS_BY) -> JSONResponse:
    """What a million tokens cost, by model, type of token and team; besides /columns also by `model` and `token_type`."""
    return JSONResponse(answers.tokens(said, by.split(",")))


def api(settings: Settings, copies: Copies) -> FastAPI:
    """The API as an ASGI application. Who asks stands in the request's state."""
    made = FastAPI(
        title="finops_assets", version=f"{SCHEMA_VERSION}", openapi_url="/openapi.json", docs_url=None, redoc_url=None,
        description="What each team spent, exact, with what every figure is made of. Read only.",
        dependencies=[Depends(HTTPBearer(auto_error=False, description="explore.tokens of finops.yaml"))],
        responses=_REFUSALS, exception_handlers={FinopsError: _refused},
    )  # fmt: skip
    made.state.settings, made.state.copies = settings, copies
    made.include_router(router)
    return made


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FinopsError)
    return JSONResponse({"error": str(error)}, status_of(error))
