"""What every training shares, whatever it trains: checkpoints, logs, memory."""
