-- Whether anything of a day is on its way.
SELECT EXISTS (SELECT 1
                 FROM delivery
                WHERE state = 'pending' AND created_at >= $1 AND created_at < $2)
