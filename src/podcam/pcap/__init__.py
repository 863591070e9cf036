"""The pcapng codec, and what pcap and pcapng files are made of."""
