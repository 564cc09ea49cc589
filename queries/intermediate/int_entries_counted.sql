-- Funnel entries, counted: attempts by funnel, entry channel and day of entry.
--
-- grain:      funnel, entry_channel, entered_date
-- build:      incremental by sum(entered)
-- publish:    no
-- columns:
--   funnel: name of the funnel
--   entry_channel: channel of the touch that matched step 1
--   entered: attempts that entered on this day by this channel
--   entered_date: day on which the attempts entered

with

entries_counted as (

    select
        funnel,
        entry_channel,
        count(*) as entered,
        entered_date
    from int_funnel_attempts
    group by funnel, entry_channel, entered_date

)

select * from entries_counted
