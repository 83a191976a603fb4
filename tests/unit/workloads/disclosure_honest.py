"""What analysts ask of tests/people.py, of groups that are large enough: the same answer with and without the owner's limits."""

from __future__ import annotations

MIN = "id < 7000"

PEOPLE = [
    "SELECT count(*) FROM people",
    "SELECT sum(salary), avg(salary), count(salary) FROM people",
    "SELECT ill, count(*) AS n FROM people GROUP BY ill",
    "SELECT flag, avg(salary) AS mean FROM people GROUP BY flag ORDER BY mean DESC",
    f"SELECT city, count(*), avg(age) FROM people WHERE {MIN} GROUP BY city ORDER BY city",
    f"SELECT city, ill, count(*) FROM people WHERE {MIN} GROUP BY ALL ORDER BY ALL",
    f"SELECT city AS place, sum(salary) AS total FROM people WHERE {MIN} GROUP BY 1 ORDER BY 2 DESC LIMIT 2",
    f"SELECT City, COUNT(*) AS Persons FROM People WHERE {MIN} GROUP BY City HAVING COUNT(*) > 50 ORDER BY Persons, City",
    f"SELECT upper(city) AS u, avg(salary) FROM people WHERE {MIN} GROUP BY u ORDER BY u",
    "SELECT age // 10 * 10 AS decade, count(*) FROM people GROUP BY decade ORDER BY decade",
    "SELECT CASE WHEN age < 40 THEN 'young' ELSE 'old' END AS stage, avg(salary), stddev(salary) FROM people GROUP BY stage ORDER BY stage",
    "SELECT year(born) // 10 AS decade, count(*) FROM people GROUP BY decade ORDER BY decade",
    "SELECT extract(month FROM born) AS month, count(*) FROM people GROUP BY month ORDER BY month",
    "SELECT date_trunc('year', born) < DATE '1980-01-01' AS early, count(*) FROM people GROUP BY early ORDER BY early",
    "SELECT avg(salary) FROM people WHERE age BETWEEN 30 AND 50 AND NOT ill",
    "SELECT count(*) FROM people WHERE name LIKE 'name1%' OR city IN ('Bern', 'Chur')",
    "SELECT count(*) FROM people WHERE born >= DATE '1970-01-01' AND born < DATE '1970-01-01' + INTERVAL '10' YEAR",
    "SELECT sum(salary * 12), avg(salary / 4), sum(salary - 100) FROM people",
    "SELECT sum(salary * age), sum(age * age), avg(age * 2 + 1) FROM people",
    "SELECT flag, sum(salary) FILTER (WHERE ill) AS with_it, sum(salary) FILTER (WHERE NOT ill) AS without "
    "FROM people GROUP BY flag ORDER BY flag",
    "SELECT count(*) FILTER (WHERE age > 30) AS a, count(*) FILTER (WHERE age > 50) AS b, count(*) AS n FROM people",
    "SELECT avg(CASE WHEN ill THEN 1 ELSE 0 END) AS share FROM people",
    "SELECT 100.0 * sum(CASE WHEN ill THEN salary ELSE 0 END) / sum(salary) AS share FROM people",
    "SELECT flag, count_if(ill) AS n, count_if(ill) / count(*) AS share FROM people GROUP BY flag ORDER BY flag",
    f"SELECT sum(CASE city WHEN 'Bern' THEN 1 ELSE 0 END) AS bern FROM people WHERE {MIN}",
    "SELECT sum(IF(age >= 60, salary, 0)) AS seniors FROM people",
    f"SELECT count(DISTINCT city), count(DISTINCT age) FROM people WHERE {MIN}",
    "SELECT var_pop(salary), var_samp(salary), stddev_pop(age), variance(age) FROM people WHERE age > 20",
    "SELECT corr(salary, age), covar_pop(salary, age), regr_slope(salary, age), regr_count(salary, age) FROM people WHERE age > 20",
    f"SELECT avg(bonus), count(bonus) FROM people WHERE {MIN}",
    f"SELECT sum(coalesce(bonus, 0)) FROM people WHERE {MIN}",
    f"SELECT city, count(*) AS n, 100.0 * count(*) / sum(count(*)) OVER () AS share FROM people WHERE {MIN} GROUP BY city ORDER BY city",
    f"SELECT city, rank() OVER (ORDER BY avg(salary) DESC) AS place FROM people WHERE {MIN} GROUP BY city ORDER BY place",
    f"SELECT city, avg(salary) AS a FROM people WHERE {MIN} GROUP BY city QUALIFY row_number() OVER (ORDER BY avg(salary)) <= 2 ORDER BY a",
    f"SELECT avg(n), max(n), min(n) FROM (SELECT city, count(*) AS n FROM people WHERE {MIN} GROUP BY city)",
    f"WITH t AS (SELECT city, age, salary FROM people WHERE {MIN}) SELECT city, avg(salary) FROM t WHERE age > "
    f"30 GROUP BY city ORDER BY city",
    "WITH t AS (SELECT flag, avg(salary) AS a FROM people GROUP BY flag) SELECT x.flag, x.a - y.a AS gap FROM "
    "t x JOIN t y ON x.flag <> y.flag ORDER BY 1",
    f"SELECT DISTINCT city FROM people WHERE {MIN} ORDER BY city",
    f"SELECT c.canton, count(*), avg(p.salary) FROM people p JOIN cities c ON p.city = c.city WHERE {MIN} GROUP "
    f"BY c.canton ORDER BY c.canton",
    f"SELECT canton, sum(salary) FROM people JOIN cities USING (city) WHERE {MIN} GROUP BY canton ORDER BY canton",
    f"SELECT c.city, c.inhabitants, count(p.id) FROM cities c LEFT JOIN people p ON c.city = p.city AND {MIN} "
    f"WHERE c.city <> 'Zug' GROUP BY ALL ORDER BY 1",
    f"SELECT v.ward, avg(v.cost), count(*) FROM visits v JOIN people p ON v.person = p.id WHERE p.{MIN} AND "
    f"p.age > 30 GROUP BY v.ward ORDER BY 1",
    f"SELECT p.city, sum(v.cost * p.age) FROM visits v, people p WHERE v.person = p.id AND p.{MIN} GROUP BY p.city ORDER BY p.city",
    "SELECT count(*) FROM people WHERE city IN (SELECT city FROM cities WHERE canton = 'GR')",
    "SELECT count(*) FROM people WHERE age > (SELECT avg(cost) FROM visits WHERE ward = 'eye' AND cost < 80)",
    "SELECT 'all' AS what, count(*) AS n FROM people UNION ALL SELECT 'cities', count(*) FROM cities ORDER BY what",
    "SELECT a.flag, count(*) FROM people a JOIN people b ON a.boss = b.boss AND a.flag = b.flag GROUP BY a.flag ORDER BY a.flag",
    "SELECT CAST(salary AS INTEGER) // 1000 AS band, count(*) AS n FROM people GROUP BY band HAVING count(*) >= 12 ORDER BY band",
    "SELECT length(name) AS l, count(*) FROM people WHERE name <> 'Alice' GROUP BY l HAVING count(*) > 20 ORDER BY l",
    "SELECT round(avg(salary), 2) AS mean, CAST(count(*) AS VARCHAR) || ' people' AS n FROM people",
    "SELECT visit, cost FROM visits ORDER BY cost DESC, visit LIMIT 5",
]

HIDDEN = [
    "SELECT * FROM people ORDER BY code LIMIT 7",
    "FROM people ORDER BY city, code LIMIT 3",
    "SELECT COLUMNS('c.*') FROM people ORDER BY ALL LIMIT 5",
    "SELECT * EXCLUDE (city), upper(city) AS city FROM people ORDER BY code LIMIT 4",
    "SELECT city, list(code ORDER BY code)[1:3] AS codes FROM people GROUP BY city ORDER BY city",
    "SELECT city, age, row_number() OVER (PARTITION BY city ORDER BY code) AS n FROM people QUALIFY n < 3 ORDER BY city, n",
    "FROM (SELECT city, flag, age FROM people) PIVOT (avg(age) FOR flag IN (0, 1)) ORDER BY city",
    "SELECT p.city, c.canton FROM people p LEFT JOIN cities c USING (city) ORDER BY p.code LIMIT 5",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT r.n, count(p.code) "
    "FROM r JOIN people p ON p.boss = r.n GROUP BY 1 ORDER BY 1",
    "SELECT boss, (SELECT max(q.age) FROM people q WHERE q.boss = p.boss) AS oldest FROM people p GROUP BY boss ORDER BY boss",
    "SELECT max(age), median(age), arg_max(code, age) FROM people WHERE boss < 10",
    "SELECT count(*) FROM people WHERE EXISTS (FROM cities WHERE cities.city = people.city AND inhabitants > 30000)",
]
