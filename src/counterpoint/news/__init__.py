"""News recommendation: which of the shown articles will this reader click?"""
