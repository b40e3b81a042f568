"""What runs the tasks of a flow, chosen by a setting: threads, processes, Ray or Dask."""
