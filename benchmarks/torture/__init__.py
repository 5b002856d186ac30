"""The torture suite: hazards that break model servers, each a scenario with a mark, driven from outside over HTTP."""
