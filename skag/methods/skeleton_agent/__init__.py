"""SkeletonAgent (arXiv 2511.22433): Questioner and Selector tell the network joints and sentences while it trains."""
