-- When an agent said goodbye: it is not there any more, although it was heard a moment ago.

ALTER TABLE agent ADD COLUMN left_at timestamptz;
