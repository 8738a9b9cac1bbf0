# Reads files with Ruby's dotenv: prints one line of JSON for each.
require "json"
require "dotenv"

ARGV.each do |file|
  begin
    line = { file: file, values: Dotenv::Environment.new(file, true).to_h }
  rescue StandardError => error
    line = { file: file, error: "#{error.class}: #{error.message}"[0, 400] }
  end
  puts JSON.generate(line)
end
