"""What the tests share: real servers and processes, faults between them, raw protocol clients. No test lives here."""
