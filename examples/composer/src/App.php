<?php

declare(strict_types=1);

namespace App;

use Greeting\Greeting;

final class App
{
    /** @param list<string> $names */
    public function run(array $names): string
    {
        return Greeting::to(implode(' and ', $names ?: ['world']));
    }
}
