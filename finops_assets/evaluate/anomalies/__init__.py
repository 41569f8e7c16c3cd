"""Days that cost what nobody expected: found once, with what drove them, judged by people. No Dagster."""
