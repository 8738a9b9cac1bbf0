<?php
// Reads files with phpdotenv: prints one line of JSON for each.
require '/usr/share/php/Dotenv/autoload.php';

foreach (array_slice($argv, 1) as $file) {
    try {
        $line = ['file' => $file, 'values' => (object) Dotenv\Dotenv::parse(file_get_contents($file))];
    } catch (Throwable $error) {
        $line = ['file' => $file, 'error' => substr(get_class($error) . ': ' . $error->getMessage(), 0, 400)];
    }
    echo json_encode($line, JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE), "\n";
}
