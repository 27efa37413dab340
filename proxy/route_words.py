"""Why a call goes where it goes, in words: for the call's page and for the one that asks before."""

from __future__ import annotations

# By the reasons of proxy/choosing.py and Call.route_reason.
ROUTES = {
    "only": "the only deployment of this model",
    "order": "first in the order of its deployments",
    "weight": "drawn by weight among equals",
    "sticky": "where the calls of its session go, for the prompt's cache",
    "cheapest": "the cheapest among equals",
    "dearer": "a dearer one among equals",
    "fastest": "the fastest among equals",
    "slower": "a slower one among equals",
    "measuring": "drawn by weight, to measure how fast it is now",
    "not measured": "how fast it is was not known",
    "fallback": "those before it could not serve the call",
    "fallback model": "the model asked for could not be tried, its circuits are open",
    "circuit open": "it had failed lately, but nothing else was left",
}
# Where several have these, the next call may draw another first.
DRAWN = {"weight", "cheapest", "fastest", "slower", "measuring", "not measured"}
# The same of a place in the order in which deployments are tried, before any was.
PLACES = ROUTES | {
    "order": "by the order of its deployments",
    "fallback model": "of a model that is tried where the one asked for cannot serve the call",
    "circuit open": "it has failed lately, so it comes last",
}
