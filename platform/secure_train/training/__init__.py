"""What runs inside the compute zone: from sealed rows to a model, under differential privacy.

`encoding`, `models` and `tasks` are plain torch and serve the control plane's predictions too; only `driver`,
`worker` and what they import know Ray. Nothing is imported here: each of a job's processes starts anew at a
recovery, and those that compute nothing (the capability's keeper) do without torch.
"""
