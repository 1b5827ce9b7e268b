from llmengine.cli.main import main

main()
