"""The authority: the only room that speaks SQL. Knows nothing of brokers, workers or the bodies of stages."""
