"""What engines that ask servers share; no engine itself."""
